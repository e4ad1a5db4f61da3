//! The data plane: accepts, authenticates, admits, forwards, records.
//!
//! ```text
//!  client ── accept ── head, path, routes ── credentials, keys ── admit ── forward ── upstream
//!             wire        order of refusals: service.rs             │         │
//!             connection                                          permit    answer
//!                                                                   └─ exchange ─┴─ record ── journal
//! ```
//!
//! **Owns** clients' connections and their deadlines, which requests are well formed, which API
//! and route they belong to, who calls, the order of refusals, forwarding and what is recorded.
//!
//! **Invariants.**
//! 1. Nothing is sent upstream without a permit, and every permit and recorded denial leaves
//!    exactly one event, however its exchange ends.
//! 2. An answer's last frame leaves after its event is appended (in durable mode: synced).
//! 3. The path that is matched is the path that is metered and forwarded, byte for byte.
//! 4. Identity that the upstream is told comes from us alone; the key never goes on.
//! 5. A key that has ended starts nothing once the change was published, and what it has in
//!    flight is cut.
//! 6. Requests never wait for the platform, its store, or another thread; everything is bounded
//!    by a constant in [`options`].
//!
//! **Does not own** the decision (`admission`), counting (`counters`), the log's format
//! (`journal`), or the catalog's making (`control`).

mod accept;
mod address;
mod admit;
mod answer;
mod authenticate;
#[cfg(feature = "testing")]
pub mod by_hand;
mod checkpoint;
mod connection;
mod credentials;
mod decide;
mod error;
mod exchange;
mod forward;
mod gateway;
mod handle;
mod head;
mod headers;
mod in_force;
mod keys;
mod lost;
mod me;
mod metrics;
mod node;
pub mod options;
mod path;
mod payers;
mod periods;
mod probe;
mod problem;
mod record;
mod recover;
mod routes;
mod service;
#[cfg(test)]
mod testing;
mod wire;
mod worker;

pub use error::StartError;
pub use gateway::{Deps, Drained, Gateway};
pub use handle::GatewayHandle;
pub use options::Options;
pub use probe::{Lane, NotDecided, Probe};
pub use tollgate_counters::QuotaUse;
