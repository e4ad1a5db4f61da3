//! What a gateway is started with, and every cap of the data plane by name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tollgate_journal::JournalOptions;

/// Longest request target, in bytes; longer ones are 400.
pub const URI_BYTES_MAX: usize = 8 * 1024;
/// Most headers of one request; more are 431.
pub const HEADERS_MAX: usize = 128;
/// Longest request head, in bytes; longer ones are 431.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most headers of an upstream's response; more are a failed upstream.
pub const RESPONSE_HEADERS_MAX: usize = 256;
/// Longest buffer of a connection, in bytes. hyper takes no less than 8 KiB.
pub const BUFFER_BYTES_MAX: usize = 128 * 1024;
/// Longest method, in bytes.
pub const METHOD_BYTES_MAX: usize = 32;
/// Longest path that is recorded, in bytes.
pub const PATH_RECORDED_BYTES_MAX: usize = 1_024;
/// Longest user agent that is recorded, in bytes.
pub const USER_AGENT_BYTES_MAX: usize = 256;
/// Longest id that a client may give its request, in bytes.
pub const CLIENT_REQUEST_ID_BYTES_MAX: usize = 128;

/// From accept to the first byte.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first byte of a head to its last.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may wait for its next request.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a body may make no progress while the peer is the one to act.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a connection looks at its deadlines.
pub const CONNECTION_TICK: Duration = Duration::from_millis(500);

/// Connections of a whole gateway.
pub const CONNECTIONS_MAX: usize = 16_384;
/// Connections from one address (IPv6 by /64).
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 4_096;
/// The queue of connections that the kernel holds for us.
pub const LISTEN_BACKLOG: i32 = 4_096;

/// Idle connections to one upstream that a thread keeps.
pub const POOL_IDLE_MAX: usize = 128;
/// How long an idle connection to an upstream is kept.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// What of a refused request's body is read, so that the connection can go on.
pub const REFUSED_BODY_BYTES_MAX: u64 = 64 * 1024;
/// How long such reading may last.
pub const REFUSED_BODY_TIMEOUT: Duration = Duration::from_secs(1);
/// What is read after a last answer, so that closing does not destroy it on its way.
pub const LINGER_BYTES_MAX: u64 = 256 * 1024;
/// How long such reading may last.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// A stream's first progress entry, and the longest time between two.
pub const PROGRESS_EVERY_US: u64 = 60_000_000;
/// Bytes after which a progress entry is written earlier.
pub const PROGRESS_BYTES: u64 = 16 * 1024 * 1024;
/// Exchanges younger than this are not asked whether their key is still good.
pub const KEY_LOOK_US: u64 = 1_000_000;
/// Longest life of a tunnel.
pub const TUNNEL_LIFE_US: u64 = 24 * 3_600 * 1_000_000;
/// One direction's buffer of a tunnel, in bytes.
pub const TUNNEL_BUFFER_BYTES: usize = 16 * 1024;

/// Between two summaries of refusals that were too frequent to be recorded one by one.
pub const SUMMARY_EVERY_US: u64 = 1_000_000;
/// Records of callers with an unknown or no key, per second and node; what is above is one record.
pub const UNKNOWN_KEY_RECORDS_PER_SECOND: u32 = 100;
/// Calls of `/.well-known/tollgate/` per second and address.
pub const ME_CALLS_PER_SECOND: u32 = 10;
/// Addresses whose calls of `/.well-known/tollgate/` are counted apart within one second.
pub const ME_ADDRESSES_MAX: usize = 10_000;

/// Between two checkpoints.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);
/// Checkpoints between two looks for counters that may be forgotten.
pub const CHECKPOINTS_PER_EVICTION: u32 = 12;
/// How long threads may take to end once everything in flight was cut.
pub const CUT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a gateway needs to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Threads; 0: one per core.
    pub workers: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections of the whole gateway at most.
    pub connections_max: usize,
    /// Connections from one address at most (IPv6 by /64).
    pub connections_per_address_max: usize,
    /// Where and how the journal is kept.
    pub journal: JournalOptions,
    /// Name of this node; made once and kept in the journal folder when `None`.
    pub node_name: Option<String>,
}

impl Options {
    /// Defaults, for a place to listen and a place to write.
    #[must_use]
    pub fn new(listen: SocketAddr, journal_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            workers: 0,
            trusted_proxies: Vec::new(),
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: CONNECTIONS_PER_ADDRESS_MAX,
            journal: JournalOptions::new(journal_dir),
            node_name: None,
        }
    }

    /// Threads to start.
    #[must_use]
    pub(crate) fn threads(&self) -> u16 {
        let wanted = match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        u16::try_from(wanted.clamp(1, 256)).unwrap_or(1)
    }
}
