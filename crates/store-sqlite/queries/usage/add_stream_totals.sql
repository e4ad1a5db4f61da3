INSERT INTO usage_stream_totals (stream, outcome, events, units) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (stream, outcome) DO UPDATE SET
    events = events + min(excluded.events, 9223372036854775807 - events),
    units = units + min(excluded.units, 9223372036854775807 - units)
