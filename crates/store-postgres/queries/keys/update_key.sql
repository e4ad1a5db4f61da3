UPDATE keys SET
    family = $2, subscription = $3, name = $4, hash = $5, prefix = $6, last4 = $7, state = $8,
    test = $9, scopes = $10, allowed_addresses = $11, limits = $12, quota = $13,
    external_id = $14, metadata = $15, created_at = $16, expires_at = $17, revoked_at = $18,
    version = $19
WHERE id = $1
