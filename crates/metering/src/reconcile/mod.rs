//! The proof that every ledger tells the same: journal, records, buckets, counters.
//!
//! **Owns** the cut, the comparison and the report.
//!
//! **The cut.** Works beside a running, unflushed server. The store is read first, in one
//! transaction with its marks; the journal afterwards, so that it is never behind them. Then:
//!
//! ```text
//! journal   0 ................ mark ........... end      totals of the journal at `end`
//!           [ ingested: store ][ waiting: read ]         ingested + waiting = journal
//! counters  0 ........ position ............             settled at the checkpoint's position
//!           [ period units at mark ]                     brought to `position` by the entries
//!                     [ + or - these ]                   between, in either direction
//! ```
//!
//! **Does not own** mending: a difference is told, never papered over.

mod advice;
mod entries;
mod gone;
mod ledgers;
mod period;
mod quotas;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use tollgate_model::{NodeId, Period, Sequence, ShardSnapshot, StreamId, Timestamp};
use tollgate_store::{IngestedEvent, OutcomeTotals, UsageStore};

use crate::{MeteringResult, SourceError, StreamEnd};

/// Running totals of a gateway's journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamTotals {
    /// Every stream that the journal still lists, and how far it goes.
    pub streams: Vec<StreamEnd>,
    /// Whether the totals are of streams too that are too old to be listed.
    pub has_unlisted: bool,
    /// Of every event ever appended up to these ends, those of deleted segments and retired
    /// streams too.
    pub totals: OutcomeTotals,
}

/// The counters as of the last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointView {
    /// The epoch that wrote it: positions are those of its streams. Everything in earlier epochs'
    /// streams is in it, nothing of later ones.
    pub epoch: u64,
    /// Every shard.
    pub shards: Vec<ShardSnapshot>,
}

/// A gateway's journal as reconciling sees it, also from another process. Methods may block.
pub trait JournalView: Send + Sync + 'static {
    /// Whose journal it is.
    fn node(&self) -> NodeId;

    /// Running totals, up to the ends that they come with.
    ///
    /// # Errors
    /// [`SourceError`] when they cannot be read.
    fn totals(&self) -> Result<StreamTotals, SourceError>;

    /// The last published checkpoint; `None` where there is none yet.
    ///
    /// # Errors
    /// [`SourceError`] when it cannot be read.
    fn checkpoint(&self) -> Result<Option<CheckpointView>, SourceError>;

    /// Shows every readable event of `from..to`, rising; the answer is how many entries there
    /// cannot be read.
    ///
    /// # Errors
    /// [`SourceError`] when the file system fails.
    fn each_event(
        &self,
        stream: &StreamId,
        from: Sequence,
        to: Sequence,
        show: &mut dyn FnMut(&IngestedEvent),
    ) -> Result<u64, SourceError>;
}

/// What to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReconcileOptions {
    /// Only quota periods that begin inside; its records and buckets are compared in addition.
    pub period: Option<Period>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReconcileLine {
    /// What is compared.
    pub name: String,
    /// What one ledger says; `None`: it could not be asked.
    pub left: Option<u64>,
    /// What the other says.
    pub right: Option<u64>,
    /// `left` − `right`.
    pub difference: Option<i64>,
    /// Whether they agree. A line that could not be checked is no difference.
    pub ok: bool,
    /// The same for people.
    pub in_words: String,
    /// What a difference means.
    pub means: Option<String>,
    /// What to do about it.
    pub todo: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReconcileReport {
    /// When, RFC 3339.
    pub at: String,
    /// Whether every line agrees.
    pub ok: bool,
    /// The comparisons.
    pub lines: Vec<ReconcileLine>,
}

impl ReconcileLine {
    pub(crate) fn compared(
        name: impl Into<String>,
        left: u64,
        right: u64,
        in_words: impl Into<String>,
    ) -> Self {
        let difference = i128::from(left) - i128::from(right);
        Self {
            name: name.into(),
            left: Some(left),
            right: Some(right),
            difference: Some(i64::try_from(difference).unwrap_or(if difference < 0 {
                i64::MIN
            } else {
                i64::MAX
            })),
            ok: left == right,
            in_words: in_words.into(),
            means: None,
            todo: None,
        }
    }

    pub(crate) fn unchecked(name: impl Into<String>, in_words: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            left: None,
            right: None,
            difference: None,
            ok: true,
            in_words: in_words.into(),
            means: None,
            todo: None,
        }
    }
}

impl fmt::Display for ReconcileLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match (self.ok, self.left) {
            (false, _) => "DIFFERS",
            (true, None) => "not checked",
            (true, Some(_)) => "ok",
        };
        write!(f, "{}: {mark}: {}", self.name, self.in_words)
    }
}

/// Compares the ledgers. Without a journal (a platform without a gateway of its own) what it would
/// tell is left unchecked, and said.
///
/// # Errors
/// When store or journal cannot be read; a difference is no error, it stands in the report.
pub async fn reconcile(
    store: &Arc<dyn UsageStore>,
    journal: Option<Arc<dyn JournalView>>,
    now: Timestamp,
    options: &ReconcileOptions,
) -> MeteringResult<ReconcileReport> {
    let (ledger, marks) = store.ledger_totals().await?;
    let mut lines = Vec::new();
    match &journal {
        Some(journal) => lines.extend(ledgers::journal_lines(journal, &marks).await?),
        None => lines.push(ReconcileLine::unchecked(
            "journal",
            "there is no journal here to compare with",
        )),
    }
    lines.extend(ledgers::store_lines(&ledger, &marks));
    if let Some(period) = options.period {
        lines.push(period::line(store.as_ref(), period).await?);
    }
    if let Some(journal) = journal {
        lines.extend(quotas::lines(store.as_ref(), journal, now, options.period).await?);
    }
    Ok(ReconcileReport {
        at: now.to_string(),
        ok: lines.iter().all(|line| line.ok),
        lines,
    })
}
