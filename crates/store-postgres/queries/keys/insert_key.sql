INSERT INTO keys (
    id, family, subscription, name, hash, prefix, last4, state, test, scopes, allowed_addresses,
    limits, quota, external_id, metadata, created_at, expires_at, revoked_at, version
) VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19
)
