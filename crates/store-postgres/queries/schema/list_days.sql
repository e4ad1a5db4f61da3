-- The table of each day of records: usage_records_YYYYMMDD.
SELECT c.relname::text
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'usage_records'::regclass
ORDER BY c.relname
