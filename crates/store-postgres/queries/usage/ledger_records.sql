SELECT
    outcome, count(*), least(sum(units), 9223372036854775807)::bigint,
    least(sum(count), 9223372036854775807)::bigint
FROM usage_records
WHERE at >= $1 AND at < $2
GROUP BY outcome
