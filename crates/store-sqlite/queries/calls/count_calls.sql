SELECT count(*), coalesce(sum(body_bytes), 0) FROM calls
