INSERT INTO usage_periods AS held (scope, id, start, units)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
ON CONFLICT (scope, id, start) DO UPDATE SET
    units = held.units + least(excluded.units, 9223372036854775807 - held.units)
