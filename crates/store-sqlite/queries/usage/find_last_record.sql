SELECT coalesce(max(n), 0) FROM usage_records
