INSERT INTO usage_stream_totals AS held (stream, outcome, events, units)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])
ON CONFLICT (stream, outcome) DO UPDATE SET
    events = held.events + least(excluded.events, 9223372036854775807 - held.events),
    units = held.units + least(excluded.units, 9223372036854775807 - held.units)
