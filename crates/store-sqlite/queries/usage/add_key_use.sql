INSERT INTO usage_key_use (key, subscription, last_used_at) VALUES (?1, ?2, ?3)
ON CONFLICT (key, subscription) DO UPDATE SET last_used_at = excluded.last_used_at
WHERE excluded.last_used_at > last_used_at
