INSERT INTO usage_scope_totals (scope, id, units) VALUES (?1, ?2, ?3)
ON CONFLICT (scope, id) DO UPDATE SET
    units = units + min(excluded.units, 9223372036854775807 - units)
