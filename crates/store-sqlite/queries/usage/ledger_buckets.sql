SELECT requests, units FROM usage_buckets JOIN usage_bucket_sums USING (bucket)
WHERE grain = 'hour' AND family = ?1
