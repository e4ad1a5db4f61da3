UPDATE usage_bucket_sums AS held SET
    requests = put.requests, units = put.units, denied = put.denied, errors = put.errors,
    client_errors = put.client_errors, server_errors = put.server_errors,
    bytes_in = put.bytes_in, bytes_out = put.bytes_out, latencies = put.latencies,
    latency_sum_us = put.latency_sum_us, latency_max_us = put.latency_max_us,
    latency = put.latency
FROM unnest(
    $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
    $13::bytea[]
) AS put (
    bucket, requests, units, denied, errors, client_errors, server_errors, bytes_in, bytes_out,
    latencies, latency_sum_us, latency_max_us, latency
)
WHERE held.bucket = put.bucket
