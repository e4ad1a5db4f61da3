-- Times are microseconds since the Unix epoch. Numbers that are unsigned outside are at most
-- 2^63 - 1 here. JSON columns hold text that Tollgate alone reads and writes, except
-- catalog_objects.document and keys.metadata, which are passed on as they are. Text that is looked
-- for or ordered has the collation "C": its order is that of its bytes, whatever the database's.

-- One row: the catalog's number.
CREATE TABLE catalog (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    number BIGINT NOT NULL
);
INSERT INTO catalog (one, number) VALUES (1, 0);

CREATE TABLE catalog_objects (
    kind TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    organization TEXT COLLATE "C",
    document TEXT NOT NULL,
    managed TEXT NOT NULL CHECK (managed IN ('file', 'api')),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);

CREATE TABLE audit (
    n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);

CREATE TABLE keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    family TEXT COLLATE "C" NOT NULL,
    subscription TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    last4 TEXT NOT NULL,
    state TEXT NOT NULL,
    test BOOLEAN NOT NULL,
    scopes TEXT,
    allowed_addresses TEXT NOT NULL,
    limits TEXT NOT NULL,
    quota TEXT,
    external_id TEXT,
    metadata TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    version BIGINT NOT NULL
);
CREATE INDEX keys_by_subscription ON keys (subscription, id);

CREATE TABLE tokens (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    id TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);

CREATE TABLE settings (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- One row, locked by whoever takes in events: turn rises with each of its transactions, place is
-- the last place that a record was given, bucket the last number of a bucket.
CREATE TABLE usage_writer (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    turn BIGINT NOT NULL,
    place BIGINT NOT NULL,
    bucket BIGINT NOT NULL
);
INSERT INTO usage_writer (one, turn, place, bucket) VALUES (1, 0, 0, 0);

-- One row per thread and life of a gateway: how far its journal was taken in.
CREATE TABLE usage_streams (
    stream BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node TEXT COLLATE "C" NOT NULL,
    epoch BIGINT NOT NULL,
    thread INTEGER NOT NULL,
    next BIGINT NOT NULL,
    UNIQUE (node, epoch, thread)
) WITH (fillfactor = 50);

CREATE TABLE usage_stream_totals (
    stream BIGINT NOT NULL REFERENCES usage_streams (stream),
    outcome TEXT COLLATE "C" NOT NULL,
    events BIGINT NOT NULL,
    units BIGINT NOT NULL,
    PRIMARY KEY (stream, outcome)
) WITH (fillfactor = 50);

-- Rows are only ever appended: n rises with arrival, and a row never changes. One partition per
-- UTC day of at, made before it is needed, so that a day can be dropped whole.
-- key_family is NULL where it equals key, and '' where there is none.
CREATE TABLE usage_records (
    n BIGINT NOT NULL,
    at BIGINT NOT NULL,
    sequence BIGINT,
    stream BIGINT,
    received_at BIGINT NOT NULL,
    latency_us BIGINT NOT NULL,
    upstream_latency_us BIGINT,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    units BIGINT NOT NULL,
    count BIGINT NOT NULL,
    catalog_version BIGINT NOT NULL,
    subscription_period BIGINT,
    key_period BIGINT,
    plan_version BIGINT,
    status INTEGER NOT NULL,
    overridden BOOLEAN NOT NULL,
    test BOOLEAN NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C",
    key_family TEXT COLLATE "C",
    subscription TEXT COLLATE "C",
    organization TEXT COLLATE "C",
    api TEXT COLLATE "C" NOT NULL,
    route TEXT COLLATE "C" NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    code TEXT,
    limit_name TEXT,
    address TEXT COLLATE "C",
    country TEXT,
    user_agent TEXT,
    meter TEXT NOT NULL,
    labels TEXT,
    plan TEXT COLLATE "C",
    would_deny TEXT,
    producer TEXT NOT NULL,
    trace_id TEXT,
    client_request_id TEXT
) PARTITION BY RANGE (at);
CREATE INDEX usage_records_by_at ON usage_records (at);
-- By a number instead of the text: a third less work for every record that is taken in.
CREATE INDEX usage_records_by_subscription ON usage_records
    (hashtextextended(subscription, 0), at, n)
    WHERE subscription IS NOT NULL;
-- Finds by id, and refuses the entry of a journal that is there already: an entry always has the
-- same id and the same instant, so it meets itself in the partition of that day.
CREATE UNIQUE INDEX usage_records_by_id ON usage_records (id, at, stream, sequence);

-- Every pair of key and subscription that records hold ('' for none): finds a key's records by
-- the index on subscriptions, so that records need no index on keys, which would make every batch
-- touch a page per key. Also says when a key was last used, for the same reason not in keys.
CREATE TABLE usage_key_use (
    key TEXT COLLATE "C" NOT NULL,
    subscription TEXT COLLATE "C" NOT NULL,
    last_used_at BIGINT NOT NULL,
    PRIMARY KEY (key, subscription)
) WITH (fillfactor = 70);

-- Names of buckets. An organization or subscription that a bucket does not have is ''. name is the
-- start and a digest of all parts: one short column to look for, whose order is that of time.
CREATE TABLE usage_buckets (
    bucket BIGINT NOT NULL PRIMARY KEY,
    name BYTEA NOT NULL UNIQUE,
    start BIGINT NOT NULL,
    test BOOLEAN NOT NULL,
    grain TEXT COLLATE "C" NOT NULL,
    family TEXT COLLATE "C" NOT NULL,
    api TEXT COLLATE "C" NOT NULL,
    organization TEXT COLLATE "C" NOT NULL,
    subscription TEXT COLLATE "C" NOT NULL,
    plan TEXT COLLATE "C" NOT NULL,
    dimension TEXT COLLATE "C" NOT NULL
);
CREATE INDEX usage_buckets_by_start ON usage_buckets (grain, family, start);
CREATE INDEX usage_buckets_by_subscription ON usage_buckets (subscription, grain, family, start);
CREATE INDEX usage_buckets_by_organization ON usage_buckets (organization, grain, family, start);
CREATE INDEX usage_buckets_by_dimension ON usage_buckets (dimension, grain, family, start);

-- What the bucket holds, apart from its name: these rows are written again and again, so they are
-- small, lie close together, and have room on their page for the next version.
CREATE TABLE usage_bucket_sums (
    bucket BIGINT NOT NULL PRIMARY KEY,
    requests BIGINT NOT NULL,
    units BIGINT NOT NULL,
    denied BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    client_errors BIGINT NOT NULL,
    server_errors BIGINT NOT NULL,
    bytes_in BIGINT NOT NULL,
    bytes_out BIGINT NOT NULL,
    latencies BIGINT NOT NULL,
    latency_sum_us BIGINT NOT NULL,
    latency_max_us BIGINT NOT NULL,
    latency BYTEA
) WITH (fillfactor = 50);

-- scope is 'subscription' or 'key' (a key's family).
CREATE TABLE usage_periods (
    scope TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    start BIGINT NOT NULL,
    units BIGINT NOT NULL,
    PRIMARY KEY (scope, id, start)
) WITH (fillfactor = 70);
CREATE INDEX usage_periods_by_start ON usage_periods (start);

-- Units of all records ever, kept so that nobody has to add them up.
CREATE TABLE usage_scope_totals (
    scope TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    units BIGINT NOT NULL,
    PRIMARY KEY (scope, id)
) WITH (fillfactor = 70);
