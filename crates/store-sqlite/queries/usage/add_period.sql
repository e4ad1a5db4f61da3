INSERT INTO usage_periods (scope, id, start, units) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (scope, id, start) DO UPDATE SET
    units = units + min(excluded.units, 9223372036854775807 - units)
