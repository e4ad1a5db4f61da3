SELECT
    id, family, subscription, name, hash, prefix, last4, state, test, scopes, allowed_addresses,
    limits, quota, external_id, metadata, created_at, expires_at, revoked_at,
    version, (SELECT max(last_used_at) FROM usage_key_use WHERE key = keys.id)
FROM keys WHERE id = $1
