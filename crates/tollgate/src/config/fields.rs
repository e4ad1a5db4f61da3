//! Every setting of `tollgate.toml`: the one table from which reading, the reference, the JSON
//! schema and the commented file of `tollgate init` are made.

/// What a setting's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `address:port`.
    Socket,
    /// A whole number from 0 on.
    Count,
    /// A list of CIDRs.
    Cidrs,
    /// A path; relative ones are relative to the file.
    Path,
    /// A duration such as `5s`.
    Duration,
    /// A size such as `64MiB`.
    Bytes,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A URL whose scheme is one of these.
    Url(&'static [&'static str]),
    /// Any text.
    Text,
    /// Text that is never shown.
    Secret,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its section.
    pub section: &'static str,
    /// Its name in the section.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// The default, as it would stand in the file; empty: none.
    pub default: &'static str,
    /// What it is for.
    pub help: &'static str,
}

const fn field(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Field {
    Field {
        section,
        name,
        kind,
        default,
        help,
    }
}

/// All settings, in the order of the file.
pub const FIELDS: &[Field] = &[
    field(
        "gateway",
        "listen",
        Kind::Socket,
        "\"127.0.0.1:8080\"",
        "Where callers connect.",
    ),
    field(
        "gateway",
        "workers",
        Kind::Count,
        "0",
        "Threads that serve callers; 0: one per core.",
    ),
    field(
        "gateway",
        "trusted_proxies",
        Kind::Cidrs,
        "[]",
        "Whose X-Forwarded-For is believed, read right to left.",
    ),
    field(
        "gateway",
        "drain",
        Kind::Duration,
        "\"30s\"",
        "How long requests may take to end once the process is asked to stop; then they are cut.",
    ),
    field(
        "platform",
        "listen",
        Kind::Socket,
        "\"127.0.0.1:8081\"",
        "The API under /api/v1, its documents and pages.",
    ),
    field(
        "health",
        "listen",
        Kind::Socket,
        "\"127.0.0.1:8082\"",
        "/livez, /readyz and /metrics.",
    ),
    field(
        "store",
        "url",
        Kind::Url(&["sqlite://", "postgres://", "postgresql://"]),
        "\"sqlite://tollgate.db\"",
        "Where records, buckets, keys and the catalog are kept: sqlite://FILE, or postgres://user:password@host:5432/database (docs/postgresql.md).",
    ),
    field(
        "counters",
        "url",
        Kind::Url(&["memory://"]),
        "\"memory://\"",
        "Where limits and quotas are counted.",
    ),
    field(
        "journal",
        "dir",
        Kind::Path,
        "\"journal\"",
        "Where the gateway writes every event down before it is acknowledged.",
    ),
    field(
        "journal",
        "sync",
        Kind::Choice(&["fast", "durable"]),
        "\"fast\"",
        "fast: a killed process loses nothing, a power cut at most 50 ms. durable: on disk before the last byte of the answer.",
    ),
    field(
        "journal",
        "ship_every",
        Kind::Duration,
        "\"5s\"",
        "Not used yet: longest wait before events go to a platform elsewhere. Within one process it is 250 ms.",
    ),
    field(
        "journal",
        "ship_batch",
        Kind::Count,
        "1000",
        "Events that are sent at once when so many wait.",
    ),
    field(
        "journal",
        "keep",
        Kind::Duration,
        "\"24h\"",
        "How long shipped segments stay, for a platform restored from an older backup.",
    ),
    field(
        "journal",
        "disk_max",
        Kind::Bytes,
        "\"4GiB\"",
        "Most space the journal may take.",
    ),
    field(
        "catalog",
        "file",
        Kind::Path,
        "",
        "A catalog that is applied at start and watched; without it the catalog lives in the store alone.",
    ),
    field(
        "fleet",
        "platform",
        Kind::Url(&["http://", "https://"]),
        "\"http://127.0.0.1:8081\"",
        "Not used yet: where a gateway finds its platform, when that is another process.",
    ),
    field(
        "fleet",
        "token",
        Kind::Secret,
        "\"\"",
        "Not used yet: the secret by which gateways join.",
    ),
    field(
        "fleet",
        "node",
        Kind::Text,
        "\"\"",
        "This gateway's name; made once and kept in the journal folder when empty.",
    ),
];

/// Settings that only the environment carries.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "TOLLGATE__SECTION__KEY",
        "Overrides a setting of the file, such as TOLLGATE__STORE__URL.",
    ),
    (
        "TOLLGATE_ADMIN_TOKEN",
        "An operator's token with every scope, at least 24 characters; set anew at every start.",
    ),
    (
        "TOLLGATE_KEY_PEPPER",
        "Keys the hashes of API keys; without it a file `pepper` beside the journal folder does. Lose it and every key is lost.",
    ),
    (
        "TOLLGATE_LOG",
        "What is logged, such as info or tollgate_gateway=debug.",
    ),
    ("TOLLGATE_LOG_FORMAT", "text (default) or json."),
];

/// The sections, in the order of the file.
#[must_use]
pub fn sections() -> Vec<&'static str> {
    let mut found: Vec<&str> = FIELDS.iter().map(|field| field.section).collect();
    found.dedup();
    found
}
