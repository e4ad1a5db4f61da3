-- Every bucket of a list of names, with its place in the list.
SELECT
    wanted.place, bucket, requests, units, denied, errors, client_errors, server_errors, bytes_in,
    bytes_out, latencies, latency_sum_us, latency_max_us, latency
FROM unnest($1::bytea[]) WITH ORDINALITY AS wanted (name, place)
    JOIN usage_buckets USING (name)
    JOIN usage_bucket_sums USING (bucket)
