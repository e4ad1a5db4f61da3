INSERT INTO usage_key_use AS held (key, subscription, last_used_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
ON CONFLICT (key, subscription) DO UPDATE SET last_used_at = excluded.last_used_at
WHERE excluded.last_used_at > held.last_used_at
