SELECT name, id, hash, scopes, created_at, expires_at FROM tokens WHERE hash = $1
