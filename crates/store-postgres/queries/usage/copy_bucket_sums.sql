COPY usage_bucket_sums (
    bucket, requests, units, denied, errors, client_errors, server_errors, bytes_in, bytes_out,
    latencies, latency_sum_us, latency_max_us, latency
) FROM STDIN BINARY
