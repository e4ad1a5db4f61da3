SELECT name, id, hash, scopes, created_at, expires_at FROM tokens ORDER BY name
