-- Times are microseconds since the Unix epoch. Numbers that are unsigned outside are at most
-- 2^63 - 1 here. JSON columns hold text that this adapter alone reads and writes, except
-- catalog_objects.document and keys.metadata, which it passes on as they are.

-- One row: the catalog's number.
CREATE TABLE catalog (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO catalog (one, number) VALUES (1, 0);

CREATE TABLE catalog_objects (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    organization TEXT,
    document TEXT NOT NULL,
    managed TEXT NOT NULL CHECK (managed IN ('file', 'api')),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT;

CREATE TABLE audit (
    n INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE TABLE keys (
    id TEXT NOT NULL PRIMARY KEY,
    family TEXT NOT NULL,
    subscription TEXT NOT NULL,
    name TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    last4 TEXT NOT NULL,
    state TEXT NOT NULL,
    test INTEGER NOT NULL,
    scopes TEXT,
    allowed_addresses TEXT NOT NULL,
    limits TEXT NOT NULL,
    quota TEXT,
    external_id TEXT,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    version INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_by_subscription ON keys (subscription, id);

CREATE TABLE tokens (
    name TEXT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- One row per thread and life of a gateway: how far its journal was taken in.
CREATE TABLE usage_streams (
    stream INTEGER PRIMARY KEY,
    node TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    thread INTEGER NOT NULL,
    next INTEGER NOT NULL,
    UNIQUE (node, epoch, thread)
) STRICT;

CREATE TABLE usage_stream_totals (
    stream INTEGER NOT NULL REFERENCES usage_streams (stream),
    outcome TEXT NOT NULL,
    events INTEGER NOT NULL,
    units INTEGER NOT NULL,
    PRIMARY KEY (stream, outcome)
) STRICT, WITHOUT ROWID;

-- Rows are only ever appended: n rises with arrival, and a row never changes.
-- key_family is NULL where it equals key, and '' where there is none.
CREATE TABLE usage_records (
    n INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    at INTEGER NOT NULL,
    key TEXT,
    key_family TEXT,
    subscription TEXT,
    organization TEXT,
    api TEXT NOT NULL,
    route TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    code TEXT,
    limit_name TEXT,
    latency_us INTEGER NOT NULL,
    upstream_latency_us INTEGER,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    address TEXT,
    country TEXT,
    user_agent TEXT,
    units INTEGER NOT NULL,
    meter TEXT NOT NULL,
    labels TEXT,
    plan TEXT,
    plan_version INTEGER,
    would_deny TEXT,
    overridden INTEGER NOT NULL,
    test INTEGER NOT NULL,
    producer TEXT NOT NULL,
    trace_id TEXT,
    client_request_id TEXT,
    count INTEGER NOT NULL,
    catalog_version INTEGER NOT NULL,
    subscription_period INTEGER,
    key_period INTEGER,
    received_at INTEGER NOT NULL,
    stream INTEGER
) STRICT;
CREATE INDEX usage_records_by_at ON usage_records (at);
CREATE INDEX usage_records_by_subscription ON usage_records (subscription, at)
    WHERE subscription IS NOT NULL;
CREATE INDEX usage_records_by_id ON usage_records (id);

-- Every pair of key and subscription that records hold ('' for none): finds a key's records by
-- the index on subscriptions, so that records need no index on keys, which would make every batch
-- touch a page per key. Also says when a key was last used, for the same reason not in keys.
CREATE TABLE usage_key_use (
    key TEXT NOT NULL,
    subscription TEXT NOT NULL,
    last_used_at INTEGER NOT NULL,
    PRIMARY KEY (key, subscription)
) STRICT, WITHOUT ROWID;

-- Names of buckets. An organization or subscription that a bucket does not have is '', so that
-- names are unique.
CREATE TABLE usage_buckets (
    bucket INTEGER PRIMARY KEY,
    grain TEXT NOT NULL,
    family TEXT NOT NULL,
    start INTEGER NOT NULL,
    api TEXT NOT NULL,
    organization TEXT NOT NULL,
    subscription TEXT NOT NULL,
    plan TEXT NOT NULL,
    dimension TEXT NOT NULL,
    test INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX usage_buckets_by_name ON usage_buckets
    (grain, family, start, api, organization, subscription, plan, dimension, test);
CREATE INDEX usage_buckets_by_subscription ON usage_buckets (subscription, grain, family, start);
CREATE INDEX usage_buckets_by_organization ON usage_buckets (organization, grain, family, start);
CREATE INDEX usage_buckets_by_dimension ON usage_buckets (dimension, grain, family, start);

-- What the bucket holds, apart from its name: these rows are written again and again, so they are
-- small and lie close together.
CREATE TABLE usage_bucket_sums (
    bucket INTEGER PRIMARY KEY,
    requests INTEGER NOT NULL,
    units INTEGER NOT NULL,
    denied INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    client_errors INTEGER NOT NULL,
    server_errors INTEGER NOT NULL,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    latencies INTEGER NOT NULL,
    latency_sum_us INTEGER NOT NULL,
    latency_max_us INTEGER NOT NULL,
    latency BLOB
) STRICT;

-- scope is 'subscription' or 'key' (a key's family).
CREATE TABLE usage_periods (
    scope TEXT NOT NULL,
    id TEXT NOT NULL,
    start INTEGER NOT NULL,
    units INTEGER NOT NULL,
    PRIMARY KEY (scope, id, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_periods_by_start ON usage_periods (start);

-- Units of all records ever, kept so that nobody has to add them up.
CREATE TABLE usage_scope_totals (
    scope TEXT NOT NULL,
    id TEXT NOT NULL,
    units INTEGER NOT NULL,
    PRIMARY KEY (scope, id)
) STRICT, WITHOUT ROWID;
