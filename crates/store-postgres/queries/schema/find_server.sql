SELECT
    current_setting('server_version_num')::integer,
    current_setting('server_encoding'),
    to_regclass('schema_migrations') IS NOT NULL
