DELETE FROM usage_buckets WHERE grain = 'minute' AND family = $1 AND start < $2
