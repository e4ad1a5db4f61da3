INSERT INTO usage_scope_totals AS held (scope, id, units)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
ON CONFLICT (scope, id) DO UPDATE SET
    units = held.units + least(excluded.units, 9223372036854775807 - held.units)
