DELETE FROM usage_bucket_sums WHERE bucket IN (
    SELECT bucket FROM usage_buckets WHERE grain = 'minute' AND family = $1 AND start < $2
)
