//! Counters in memory: one reservation over all limits of a request, exact under any concurrency,
//! and never forgetting over a restart a unit that may be refused by.
//!
//! **Owns** the counters of sliding windows and quotas ([`MemoryCounters`]), the marks up to which
//! they may be spent ([`GrantLog`]), their snapshots and their restoring, and which addresses are
//! counted apart.
//!
//! **Invariants.**
//! 1. A reservation locks the shards of all its counters in rising order, reads, decides, charges
//!    and unlocks: all counters are charged or none, no two reservations see the same unit free,
//!    and no lock is held over an await.
//! 2. What is taken on a counter never passes its mark, and a mark is written down before
//!    anything is taken beyond the one before it. Hence after a crash what was taken is known, up
//!    to one grant a counter, and what is not known counts as spent (see `restore`).
//! 3. A counter that could still refuse somebody is never evicted: not a window in which
//!    something counts, not one with a request in flight, not a quota before its period is over.
//! 4. Time never goes backwards on a shard: an earlier moment than the latest seen is taken as
//!    the latest.
//!
//! **Does not own** the decision (`admission`), where marks, events and snapshots are written
//! (`journal`), or when snapshots and evictions are due (`gateway`).

mod addresses;
mod counter;
mod grant;
mod memory;
mod reservation;
mod restore;
mod shard;
mod snapshot;
mod sync;
mod table;
mod unrecorded;

pub use addresses::ADDRESSES_APART_MAX;
pub use grant::{GRANT_UNITS_MAX, GrantLog, GrantRefused};
pub use memory::{MemoryCounters, Totals};
pub use reservation::{Denied, Reservation, ReserveError};
pub use restore::{Checkpointed, Logged, Position};
pub use shard::SHARDS;
pub use unrecorded::QuotaUse;

#[cfg(test)]
mod tests;
