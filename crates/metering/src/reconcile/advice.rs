//! What a difference means and what to do about it, for whoever is woken by it.

use super::ReconcileLine;

/// Which two ledgers a line compares; left and right as in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ledgers {
    /// The journal's running totals against what waits and what was taken in.
    JournalAndStore,
    /// What was taken in against what stands in records.
    TakenInAndRecords,
    /// Records against buckets.
    RecordsAndBuckets,
    /// Counters that refuse against the events they were charged for.
    CountersAndEvents,
}

/// What it means, and what to do, when the left side is larger (or smaller).
fn words(ledgers: Ledgers, left_is_larger: bool) -> (&'static str, &'static str) {
    match (ledgers, left_is_larger) {
        (Ledgers::JournalAndStore, true) => (
            "events were written down and are in no record: they lie in damaged parts of the \
             journal, or the store refused them (quarantined)",
            "keep the journal folder; `tollgate journal verify DIR` names damaged parts, the \
             server's log names quarantined events",
        ),
        (Ledgers::JournalAndStore, false) => (
            "the store has events that this journal never wrote: an older copy of the journal \
             folder was put in place, or folder and store belong to two installations",
            "see that journal.dir and store.url of this configuration belong together; delete \
             neither",
        ),
        (Ledgers::TakenInAndRecords, true) => (
            "rows of records are gone from the database: somebody deleted them, or it was restored \
             in part",
            "restore the store from a backup: gateways then ship again what came after it, as long \
             as journal.keep",
        ),
        (Ledgers::TakenInAndRecords, false) => (
            "there are records that no gateway shipped, or records that are there twice: quotas \
             and charts may be too high",
            "keep the store as it is and report this; `tollgate usage records --json` shows the \
             records",
        ),
        (Ledgers::RecordsAndBuckets, true) => (
            "statistics and charts show too little; records, quotas and limits are right",
            "`tollgate reconcile --period YYYY-MM` says for which API and hour; trust records \
             until it is mended",
        ),
        (Ledgers::RecordsAndBuckets, false) => (
            "statistics and charts show too much; quotas and limits are right",
            "`tollgate reconcile --period YYYY-MM` says for which API and hour; trust records \
             until it is mended",
        ),
        (Ledgers::CountersAndEvents, true) => (
            "the counter has more than its events: these callers are refused too early",
            "keep the journal folder and the store and report this",
        ),
        (Ledgers::CountersAndEvents, false) => (
            "the counter has less than its events: these callers may use more than their quota",
            "keep the journal folder and the store and report this",
        ),
    }
}

impl ReconcileLine {
    /// Adds what it means and what to do where the line differs.
    pub(super) fn advised(mut self, ledgers: Ledgers) -> Self {
        if !self.ok {
            let larger = self.difference.is_none_or(|difference| difference >= 0);
            let (means, todo) = words(ledgers, larger);
            self.means = Some(means.to_owned());
            self.todo = Some(todo.to_owned());
        }
        self
    }
}
