//! Ports to what is kept: traits that rooms speak to and adapters implement.
//!
//! **Owns** the traits, the shapes that cross them, [`StoreError`], the in-memory model
//! ([`MemoryStore`]) and the conformance suite that every adapter must pass.
//!
//! **Invariants.** One method is one transaction; no SQL, pool or row type crosses a port; a
//! change names the version it was decided on and is refused with `Conflict` when that has moved;
//! audit rows commit with the change that they tell of.
//!
//! **Does not own** rules: rooms load, decide, then submit a command.

mod calls;
mod catalog;
pub mod conformance;
mod cursor;
mod error;
mod gathered;
pub mod json;
mod keys;
mod memory;
mod settings;
pub mod testing;
mod tokens;
mod usage;

pub use calls::{CallAttempt, CallClaim, CallDone, CallId, CallStore, Claimed, SavedAnswer};
pub use catalog::{
    AuditEntry, CatalogChange, CatalogObject, CatalogStore, Effects, ObjectChange, ObjectKind,
    StoredCatalog,
};
pub use cursor::RecordCursor;
pub use error::{Entity, StoreError, StoreErrorKind, StoreResult};
pub use gathered::Gathered;
pub use keys::{KeyFilter, KeyStore, KeyWrite, VersionedKey};
pub use memory::MemoryStore;
pub use settings::SettingsStore;
pub use tokens::TokenStore;
pub use tollgate_model::OutcomeTotals;
pub use usage::{
    BucketQuery, HighWaterMark, IngestBatch, IngestedEvent, LedgerTotals, PeriodScope, PeriodUnits,
    RecordOrder, RecordQuery, UsageRecord, UsageStore,
};

/// Everything that a platform keeps.
pub trait Store:
    CallStore + CatalogStore + KeyStore + TokenStore + UsageStore + SettingsStore
{
}

impl<T: CallStore + CatalogStore + KeyStore + TokenStore + UsageStore + SettingsStore> Store for T {}

/// Most items of a page; a larger `limit` is taken as this, 0 as 1.
pub const PAGE_ITEMS_MAX: u32 = 1_000;
/// Most records of a page.
pub const RECORDS_PAGE_MAX: u32 = 10_000;
/// Most keys of one page of [`KeyStore::load_keys`].
pub const KEYS_LOAD_MAX: u32 = 50_000;

/// A page of a list, and where the next one begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// What was found, in the order asked for.
    pub items: Vec<T>,
    /// Hand this back to get the next page; `None` at the end. Opaque to callers.
    pub next_cursor: Option<String>,
}

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items of the page, 1 to 1 000.
    pub limit: u32,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageRequest {
    /// `limit` within its bounds.
    #[must_use]
    pub fn items_max(&self) -> u32 {
        self.limit.clamp(1, PAGE_ITEMS_MAX)
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            limit: 50,
            cursor: None,
        }
    }
}
