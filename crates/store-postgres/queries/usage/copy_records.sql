COPY usage_records (
    n, sequence, stream, received_at, id, at, key, key_family, subscription, organization, api,
    route, method, path, status, outcome, code, limit_name, latency_us, upstream_latency_us,
    bytes_in, bytes_out, address, country, user_agent, units, meter, labels, plan, plan_version,
    would_deny, overridden, test, producer, trace_id, client_request_id, count, catalog_version,
    subscription_period, key_period
) FROM STDIN BINARY
