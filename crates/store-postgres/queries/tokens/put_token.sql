INSERT INTO tokens (name, id, hash, scopes, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO UPDATE SET
    id = excluded.id,
    hash = excluded.hash,
    scopes = excluded.scopes,
    created_at = excluded.created_at,
    expires_at = excluded.expires_at
