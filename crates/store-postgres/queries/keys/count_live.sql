SELECT count(*) FROM keys
WHERE subscription = $1 AND state <> 'revoked' AND (expires_at IS NULL OR expires_at > $2)
