REPLACE INTO usage_bucket_sums (
    bucket, requests, units, denied, errors, client_errors, server_errors, bytes_in, bytes_out,
    latencies, latency_sum_us, latency_max_us, latency
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
