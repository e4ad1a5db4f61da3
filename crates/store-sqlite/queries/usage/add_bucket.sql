INSERT INTO usage_buckets (
    grain, family, start, api, organization, subscription, plan, dimension, test, requests, units,
    denied, errors, client_errors, server_errors, bytes_in, bytes_out, latencies, latency_sum_us,
    latency_max_us, latency
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21
)
ON CONFLICT (grain, family, start, api, organization, subscription, plan, dimension, test)
DO UPDATE SET
    requests = requests + min(excluded.requests, 9223372036854775807 - requests),
    units = units + min(excluded.units, 9223372036854775807 - units),
    denied = denied + min(excluded.denied, 9223372036854775807 - denied),
    errors = errors + min(excluded.errors, 9223372036854775807 - errors),
    client_errors = client_errors + min(excluded.client_errors, 9223372036854775807 - client_errors),
    server_errors = server_errors + min(excluded.server_errors, 9223372036854775807 - server_errors),
    bytes_in = bytes_in + min(excluded.bytes_in, 9223372036854775807 - bytes_in),
    bytes_out = bytes_out + min(excluded.bytes_out, 9223372036854775807 - bytes_out),
    latencies = latencies + min(excluded.latencies, 9223372036854775807 - latencies),
    latency_sum_us = latency_sum_us + min(excluded.latency_sum_us, 9223372036854775807 - latency_sum_us),
    latency_max_us = max(latency_max_us, excluded.latency_max_us),
    latency = coalesce(excluded.latency, latency)
