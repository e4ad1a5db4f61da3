SELECT
    bucket, requests, units, denied, errors, client_errors, server_errors, bytes_in, bytes_out,
    latencies, latency_sum_us, latency_max_us, latency
FROM usage_buckets JOIN usage_bucket_sums USING (bucket)
WHERE grain = ?1
    AND family = ?2
    AND start = ?3
    AND api = ?4
    AND organization = ?5
    AND subscription = ?6
    AND plan = ?7
    AND dimension = ?8
    AND test = ?9
