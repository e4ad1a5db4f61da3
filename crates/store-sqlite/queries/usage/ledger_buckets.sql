SELECT requests, units FROM usage_buckets WHERE grain = 'hour' AND family = ?1
