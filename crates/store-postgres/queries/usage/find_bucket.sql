-- Every bucket of a list of names, with its place in the list.
SELECT
    wanted.place, bucket, requests, units, denied, errors, client_errors, server_errors, bytes_in,
    bytes_out, latencies, latency_sum_us, latency_max_us, latency
FROM unnest(
        $1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
        $8::text[], $9::boolean[]
    ) WITH ORDINALITY AS wanted (
        grain, family, start, api, organization, subscription, plan, dimension, test, place
    )
    JOIN usage_buckets USING (
        grain, family, start, api, organization, subscription, plan, dimension, test
    )
    JOIN usage_bucket_sums USING (bucket)
