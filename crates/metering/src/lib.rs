//! From the journal to a number: ships events into the store, folds them, answers questions.
//!
//! **Owns** [`Shipper`] (journal to store, in order, at least once, counted once), [`fold()`]
//! (events to buckets and periods), [`Metering`] (statistics, trends, summaries, rankings, single
//! requests), [`reconcile()`] (the proof that journal, records, buckets and counters agree), and
//! [`MinuteRetention`] (minute buckets are kept 48 hours).
//!
//! **Invariants.**
//! - The store's high-water mark is the truth: a batch begins at it and moves it, in one
//!   transaction with its records, buckets and periods. Shipping again changes nothing.
//! - Folding is pure and indifferent to grouping: any cut of events into batches sums to the same.
//! - An answer covers exactly the span asked for: whole hours come from hour buckets, the rest from
//!   minute buckets while they are kept, what is left from single records.
//! - Nothing is read without a bound; where a bound would make an answer incomplete, the answer
//!   says so or is refused.
//!
//! **Does not own** the journal's files, SQL, what quotas allow (callers pass readings in), or how
//! answers look on the wire.

mod error;
mod fold;
mod ingest;
mod journal;
pub mod question;
mod reconcile;
mod retain;
mod service;
mod ship;
mod source;
#[cfg(test)]
mod tests;

pub use error::{Lag, MeteringError, MeteringResult};
pub use fold::{Folded, LABEL_NAMES_MAX, LABEL_VALUES_MAX, LabelValues, fold};
pub use ingest::Ingest;
pub use journal::{FolderJournal, LocalJournal};
pub use reconcile::{
    CheckpointView, JournalView, ReconcileLine, ReconcileOptions, ReconcileReport, StreamTotals,
    reconcile,
};
pub use retain::MinuteRetention;
pub use service::{Metering, UsageTotals};
pub use ship::{ShipLag, ShipOptions, ShipStatus, Shipper};
pub use source::{BatchSource, Changed, Chunk, SourceError, StreamEnd};
