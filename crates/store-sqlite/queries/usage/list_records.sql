-- Bounds are exclusive. The adapter puts the index to walk in place of /*path*/ and DESC in place
-- of /*direction*/ where the newest come first.
SELECT
    r.id, r.at, r.key, r.key_family, r.subscription, r.organization, r.api, r.route, r.method,
    r.path, r.status, r.outcome, r.code, r.limit_name, r.latency_us, r.upstream_latency_us,
    r.bytes_in, r.bytes_out, r.address, r.country, r.user_agent, r.units, r.meter, r.labels,
    r.plan, r.plan_version, r.would_deny, r.overridden, r.test, r.producer, r.trace_id,
    r.client_request_id, r.count, r.catalog_version, r.subscription_period, r.key_period,
    r.received_at, s.node, r.n
FROM usage_records r LEFT JOIN usage_streams s USING (stream)
WHERE r.at >= ?1 AND r.at <= ?3
    AND (r.at, r.n) > (?1, ?2) AND (r.at, r.n) < (?3, ?4)
    /*path*/
    AND (?5 IS NULL OR r.id = ?5)
    AND (?6 IS NULL OR r.key = ?6)
    AND (?7 IS NULL OR r.subscription = ?7)
    AND (?9 IS NULL OR r.organization = ?9)
    AND (?10 IS NULL OR r.api = ?10)
    AND (?11 IS NULL OR r.route = ?11)
    AND (?12 IS NULL OR r.plan = ?12)
    AND (?13 IS NULL OR r.status = ?13)
    AND (?14 IS NULL OR r.outcome = ?14)
    AND (?15 IS NULL OR r.address = ?15)
    AND (?16 IS NULL OR r.latency_us >= ?16)
    AND (?17 IS NULL OR r.test = ?17)
ORDER BY r.at /*direction*/, r.n /*direction*/
LIMIT ?8
