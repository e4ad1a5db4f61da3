INSERT INTO usage_records (
    id, at, key, key_family, subscription, organization, api, route, method, path, status,
    outcome, code, limit_name, latency_us, upstream_latency_us, bytes_in, bytes_out, address,
    country, user_agent, units, meter, labels, plan, plan_version, would_deny, overridden, test,
    producer, trace_id, client_request_id, count, catalog_version, subscription_period,
    key_period, received_at, stream
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
    ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38
)
