-- Calls under an idempotency key. id: digest of who called and of the key. did is NULL until the
-- call is done; status is NULL where its answer was not kept.
CREATE TABLE calls (
    id BLOB NOT NULL PRIMARY KEY,
    attempt BLOB NOT NULL,
    of BLOB NOT NULL,
    at INTEGER NOT NULL,
    did TEXT,
    status INTEGER,
    content_type TEXT,
    location TEXT,
    body BLOB,
    body_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX calls_by_at ON calls (at, body_bytes);
