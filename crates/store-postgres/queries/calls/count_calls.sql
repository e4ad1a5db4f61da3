SELECT count(*), coalesce(sum(body_bytes), 0)::bigint FROM calls
