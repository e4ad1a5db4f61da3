-- Waits for an act that is under way, and sees how it ended.
SELECT of, did, status, content_type, location, body FROM calls WHERE id = $1 FOR UPDATE
