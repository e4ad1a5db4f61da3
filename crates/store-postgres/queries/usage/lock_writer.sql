-- Whoever takes in events or drops buckets holds this row until the end of its transaction.
SELECT turn, place, bucket FROM usage_writer FOR UPDATE
