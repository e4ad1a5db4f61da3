SELECT subscription FROM usage_key_use WHERE key = $1 LIMIT 2
