-- Calls under an idempotency key. id: digest of who called and of the key. did is NULL until the
-- call is done; status is NULL where its answer was not kept.
CREATE TABLE calls (
    id BYTEA NOT NULL PRIMARY KEY,
    attempt BYTEA NOT NULL,
    of BYTEA NOT NULL,
    at BIGINT NOT NULL,
    did TEXT,
    status INTEGER,
    content_type TEXT,
    location TEXT,
    body BYTEA,
    body_bytes BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX calls_by_at ON calls (at, body_bytes);
