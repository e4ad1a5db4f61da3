SELECT
    id, family, subscription, name, hash, prefix, last4, state, test, scopes, allowed_addresses,
    limits, quota, external_id, metadata, created_at, expires_at, revoked_at
FROM keys WHERE id > $1
ORDER BY id LIMIT $2
