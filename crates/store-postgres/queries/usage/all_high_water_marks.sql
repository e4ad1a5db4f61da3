SELECT s.node, s.epoch, s.thread, s.next, t.outcome, t.events, t.units
FROM usage_streams s LEFT JOIN usage_stream_totals t USING (stream)
ORDER BY s.node, s.epoch, s.thread
