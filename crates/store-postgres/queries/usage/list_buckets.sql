SELECT
    start, api, organization, subscription, plan, dimension, test, requests, units, denied,
    errors, client_errors, server_errors, bytes_in, bytes_out, latencies, latency_sum_us,
    latency_max_us, latency
FROM usage_buckets JOIN usage_bucket_sums USING (bucket)
WHERE grain = $1 AND family = $2 AND start >= $3 AND start < $4
    AND ($5::text IS NULL OR api = $5)
    AND ($6::text IS NULL OR organization = $6)
    AND ($7::text IS NULL OR subscription = $7)
    AND ($8::text IS NULL OR plan = $8)
    AND ($9::text IS NULL OR dimension = $9)
    AND ($10 OR NOT test)
ORDER BY start, api, organization, subscription, plan, dimension, test
