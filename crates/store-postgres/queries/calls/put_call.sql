INSERT INTO calls (id, attempt, of, at) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET attempt = excluded.attempt, at = excluded.at
