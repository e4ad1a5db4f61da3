SELECT
    least(coalesce(sum(requests), 0), 9223372036854775807)::bigint,
    least(coalesce(sum(units), 0), 9223372036854775807)::bigint
FROM usage_buckets JOIN usage_bucket_sums USING (bucket)
WHERE grain = 'hour' AND family = $1
