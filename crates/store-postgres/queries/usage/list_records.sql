-- Bounds are exclusive. The adapter puts a condition on $5 that names the index to walk in place of
-- /*path*/, and ASC or DESC in place of /*direction*/.
SELECT
    r.id, r.at, r.key, r.key_family, r.subscription, r.organization, r.api, r.route, r.method,
    r.path, r.status, r.outcome, r.code, r.limit_name, r.latency_us, r.upstream_latency_us,
    r.bytes_in, r.bytes_out, r.address, r.country, r.user_agent, r.units, r.meter, r.labels,
    r.plan, r.plan_version, r.would_deny, r.overridden, r.test, r.producer, r.trace_id,
    r.client_request_id, r.count, r.catalog_version, r.subscription_period, r.key_period,
    r.received_at, s.node, r.n
FROM usage_records r LEFT JOIN usage_streams s USING (stream)
WHERE r.at >= $1 AND r.at <= $3
    AND (r.at, r.n) > ($1, $2) AND (r.at, r.n) < ($3, $4)
    AND ($5::text IS NULL OR TRUE)
    /*path*/
    AND ($7::text IS NULL OR r.id = $7)
    AND ($8::text IS NULL OR r.key = $8)
    AND ($9::text IS NULL OR r.subscription = $9)
    AND ($10::text IS NULL OR r.organization = $10)
    AND ($11::text IS NULL OR r.api = $11)
    AND ($12::text IS NULL OR r.route = $12)
    AND ($13::text IS NULL OR r.plan = $13)
    AND ($14::integer IS NULL OR r.status = $14)
    AND ($15::text IS NULL OR r.outcome = $15)
    AND ($16::text IS NULL OR r.address = $16)
    AND ($17::bigint IS NULL OR r.latency_us >= $17)
    AND ($18::boolean IS NULL OR r.test = $18)
ORDER BY r.at /*direction*/, r.n /*direction*/
LIMIT $6
