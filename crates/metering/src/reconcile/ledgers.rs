//! Journal = waiting + ingested; ingested = records = buckets.

use std::collections::HashMap;
use std::sync::Arc;

use tollgate_model::{NodeId, Outcome, Sequence, StreamId};
use tollgate_store::{HighWaterMark, LedgerTotals, OutcomeTotals};

use super::advice::Ledgers;
use super::entries::each_entry;
use super::{JournalView, ReconcileLine, StreamTotals};
use crate::MeteringResult;
use crate::source::blocking;

pub(super) async fn journal_lines(
    journal: &Arc<dyn JournalView>,
    marks: &[HighWaterMark],
) -> MeteringResult<Vec<ReconcileLine>> {
    let source = journal.clone();
    let found = blocking(move || source.totals()).await?;
    let node = journal.node();
    let mut ingested = OutcomeTotals::default();
    let mut of_another = OutcomeTotals::default();
    let mut next_of: HashMap<&StreamId, Sequence> = HashMap::new();
    for mark in marks {
        match found.whose(&node, &mark.stream) {
            Whose::Ours => {
                ingested.merge(&mark.totals);
                next_of.insert(&mark.stream, mark.next);
            }
            Whose::AnEarlierJournals => of_another.merge(&mark.totals),
            Whose::AnotherGateways => {}
        }
    }
    let mut waiting = OutcomeTotals::default();
    let mut unreadable = 0;
    for end in &found.streams {
        let from = next_of.get(&end.stream).copied().unwrap_or_default();
        unreadable += each_entry(journal, &end.stream, from, end.end, |entry| {
            waiting.add(entry.outcome, entry.units);
        })
        .await?;
    }
    let mut accounted = waiting;
    accounted.merge(&ingested);
    let mut lines = by_outcome(
        "journal",
        Ledgers::JournalAndStore,
        &found.totals,
        &accounted,
        |what, n, left, right| {
            let (waits, taken) = match what {
                What::Events => (at(&waiting.events, n), at(&ingested.events, n)),
                What::Units => (at(&waiting.units, n), at(&ingested.units, n)),
            };
            format!("{left} in the journal, {right} = {waits} waiting + {taken} taken in")
        },
    );
    if unreadable > 0 {
        let words = format!(
            "{unreadable} entries that wait to be taken in cannot be read; no total holds them"
        );
        let line = ReconcileLine::compared("journal: unreadable", unreadable, 0, words);
        lines.push(line.advised(Ledgers::JournalAndStore));
    }
    let events: u64 = of_another.events.iter().sum();
    if events > 0 {
        let words = format!(
            "{events} events were taken in from an earlier journal of this gateway, which is gone"
        );
        lines.push(ReconcileLine::unchecked("journal: earlier", words));
    }
    Ok(lines)
}

/// Whose journal a stream was read from.
enum Whose {
    Ours,
    /// A journal in this gateway's name, in the place of which there is a new one.
    AnEarlierJournals,
    AnotherGateways,
}

impl StreamTotals {
    fn whose(&self, node: &NodeId, stream: &StreamId) -> Whose {
        if self.streams.iter().any(|end| end.stream == *stream) {
            return Whose::Ours;
        }
        if stream.node != *node {
            return Whose::AnotherGateways;
        }
        let oldest = self.streams.iter().map(|end| end.stream.epoch).min();
        let before = oldest.is_none_or(|oldest| stream.epoch < oldest);
        if before && !self.has_unlisted {
            return Whose::AnEarlierJournals;
        }
        Whose::Ours
    }
}

pub(super) fn store_lines(ledger: &LedgerTotals, marks: &[HighWaterMark]) -> Vec<ReconcileLine> {
    let mut ingested = OutcomeTotals::default();
    for mark in marks {
        ingested.merge(&mark.totals);
    }
    let mut lines = by_outcome(
        "records",
        Ledgers::TakenInAndRecords,
        &ingested,
        &ledger.records,
        |_, _, left, right| format!("{left} taken in, {right} in records"),
    );
    let record_units = ledger
        .records
        .units
        .iter()
        .fold(0u64, |sum, units| sum.saturating_add(*units));
    let pairs = [
        (
            "requests in api buckets",
            ledger.record_requests,
            ledger.bucket_requests,
        ),
        ("units in api buckets", record_units, ledger.bucket_units),
        (
            "requests in route buckets",
            ledger.record_requests,
            ledger.route_bucket_requests,
        ),
        (
            "units in route buckets",
            record_units,
            ledger.route_bucket_units,
        ),
    ];
    lines.extend(pairs.map(|(name, records, buckets)| {
        let words = format!("{records} in records, {buckets} in buckets");
        ReconcileLine::compared(name, records, buckets, words).advised(Ledgers::RecordsAndBuckets)
    }));
    lines
}

#[derive(Clone, Copy)]
enum What {
    Events,
    Units,
}

/// One line for events and one for units of each outcome that either side knows.
fn by_outcome(
    ledger: &str,
    ledgers: Ledgers,
    left: &OutcomeTotals,
    right: &OutcomeTotals,
    words: impl Fn(What, usize, u64, u64) -> String,
) -> Vec<ReconcileLine> {
    let mut lines = Vec::new();
    for (n, outcome) in Outcome::ALL.into_iter().enumerate() {
        let pairs = [
            (
                What::Events,
                "events",
                at(&left.events, n),
                at(&right.events, n),
            ),
            (
                What::Units,
                "units",
                at(&left.units, n),
                at(&right.units, n),
            ),
        ];
        if at(&left.events, n) == 0 && at(&right.events, n) == 0 {
            continue;
        }
        for (what, unit, mine, theirs) in pairs {
            let name = format!("{ledger}: {unit} {}", outcome.as_str());
            let words = words(what, n, mine, theirs);
            lines.push(ReconcileLine::compared(name, mine, theirs, words).advised(ledgers));
        }
    }
    if lines.is_empty() {
        let words = words(What::Events, 0, 0, 0);
        lines.push(ReconcileLine::compared(
            format!("{ledger}: events"),
            0,
            0,
            words,
        ));
    }
    lines
}

fn at(values: &[u64], n: usize) -> u64 {
    values.get(n).copied().unwrap_or(0)
}
