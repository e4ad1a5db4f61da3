INSERT INTO usage_streams (node, epoch, thread, next) VALUES ($1, $2, $3, $4)
ON CONFLICT (node, epoch, thread) DO UPDATE SET next = excluded.next
RETURNING stream
