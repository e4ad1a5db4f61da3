//! Taking in batches: marks, records, buckets, periods and totals in one transaction.
//!
//! The hot path of the adapter. Records are written as they come; what many events add to one row
//! (buckets, periods, totals, last use) is added up over all batches of the transaction and written
//! once. A transaction ends early, between two batches, when a command waits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use rusqlite::{OptionalExtension, Transaction};
use tollgate_model::{KeyId, Outcome, Sequence, StreamId, SubscriptionId, Timestamp, UsageEvent};
use tollgate_store::{IngestBatch, OutcomeTotals, PeriodScope, StoreErrorKind};

use super::hot::HotBuckets;
use super::record_rows::RecordWriter;
use super::scope_columns;
use crate::columns::{first_count, stored};
use crate::failure::{Failure, Worked};
use crate::sql;
use crate::writer::Writer;

/// Takes in the first batches, until one does not fit or a command waits; how many.
pub(super) fn take_in(
    writer: &mut Writer,
    batches: &[Arc<IngestBatch>],
    somebody_waits: &dyn Fn() -> bool,
) -> Worked<usize> {
    if batches.is_empty() {
        return Ok(0);
    }
    writer.transact_with_buckets(|transaction, hot| {
        hot.begin(transaction)?;
        let mut sums = Sums::default();
        let mut taken = 0;
        for batch in batches {
            if taken > 0 && somebody_waits() {
                break;
            }
            if !sums.take_in(transaction, hot, batch)? {
                break;
            }
            taken += 1;
        }
        if taken == 0 {
            return Err(Failure::Refused(
                StoreErrorKind::Conflict,
                "the range does not begin at the stream's mark",
            ));
        }
        hot.write(transaction)?;
        sums.write(transaction)?;
        fail::fail_point!("ingest-written", |how| Err(
            how.map_or_else(|| std::process::abort(), |_| Failure::Stopped)
        ));
        Ok(taken)
    })
}

/// What the batches of a transaction add to rows that many events share.
#[derive(Default)]
struct Sums<'b> {
    streams: HashMap<&'b StreamId, Stream>,
    periods: HashMap<(&'b PeriodScope, Timestamp), u64>,
    scopes: HashMap<(&'static str, &'b str), u64>,
    last_used: HashMap<(&'b str, &'b str), i64>,
}

struct Stream {
    row: i64,
    next: Sequence,
    totals: OutcomeTotals,
}

impl<'b> Sums<'b> {
    /// Whether the batch begins at its stream's mark; if not, nothing was changed.
    fn take_in(
        &mut self,
        transaction: &Transaction<'_>,
        hot: &mut HotBuckets,
        batch: &'b IngestBatch,
    ) -> Worked<bool> {
        let stream = match self.streams.entry(&batch.stream) {
            Entry::Occupied(known) if known.get().next != batch.first => return Ok(false),
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                if read_mark(transaction, &batch.stream)? != batch.first {
                    return Ok(false);
                }
                place.insert(Stream {
                    row: put_mark(transaction, &batch.stream, batch.next)?,
                    next: batch.next,
                    totals: OutcomeTotals::default(),
                })
            }
        };
        stream.next = batch.next;
        fail::fail_point!("ingest-claimed", |how| Err(
            how.map_or_else(|| std::process::abort(), |_| Failure::Stopped)
        ));
        let mut writer = RecordWriter::new(transaction, batch.received_at, stream.row)?;
        for event in batch.events.iter().map(|taken| &taken.event) {
            writer.insert(event)?;
            stream.totals.add(event.outcome, event.units);
        }
        for bucket in &batch.buckets {
            hot.add(transaction, bucket)?;
        }
        for period in &batch.periods {
            let units = self.periods.entry((&period.scope, period.start));
            add(units.or_default(), period.units);
        }
        for event in batch.events.iter().map(|taken| &taken.event) {
            self.add(event);
        }
        Ok(true)
    }

    fn add(&mut self, event: &'b UsageEvent) {
        let family = event.key_family.as_ref().or(event.key.as_ref());
        let subscription = event.subscription.as_ref().map(SubscriptionId::as_str);
        let family = family.map(KeyId::as_str);
        for scope in [("subscription", subscription), ("key", family)] {
            if let (kind, Some(id)) = scope {
                add(self.scopes.entry((kind, id)).or_default(), event.units);
            }
        }
        if let Some(key) = &event.key {
            let pair = (key.as_str(), subscription.unwrap_or(""));
            let at = self.last_used.entry(pair).or_insert(event.at.0);
            *at = event.at.0.max(*at);
        }
    }

    fn write(self, transaction: &Transaction<'_>) -> Worked<()> {
        let mut add = transaction.prepare_cached(sql::usage::ADD_STREAM_TOTALS)?;
        for (id, stream) in self.streams {
            put_mark(transaction, id, stream.next)?;
            let totals = stream.totals;
            let by_outcome = totals.events.into_iter().zip(totals.units);
            for (outcome, (events, units)) in Outcome::ALL.iter().zip(by_outcome) {
                if events > 0 {
                    let (events, units) = (stored(events), stored(units));
                    add.execute((stream.row, outcome.as_str(), events, units))?;
                }
            }
        }
        let mut add = transaction.prepare_cached(sql::usage::ADD_PERIOD)?;
        for ((scope, start), units) in in_order(self.periods) {
            let (kind, id) = scope_columns(scope);
            add.execute((kind, id, start.0, stored(units)))?;
        }
        let mut add = transaction.prepare_cached(sql::usage::ADD_SCOPE_TOTAL)?;
        for ((kind, id), units) in in_order(self.scopes) {
            add.execute((kind, id, stored(units)))?;
        }
        let mut add = transaction.prepare_cached(sql::usage::ADD_KEY_USE)?;
        for ((key, subscription), at) in in_order(self.last_used) {
            add.execute((key, subscription, at))?;
        }
        Ok(())
    }
}

fn add(sum: &mut u64, units: u64) {
    *sum = sum.saturating_add(units);
}

/// By rising key, so that neighbours in the table are written one after the other.
fn in_order<K: Hash + Ord, V>(sums: HashMap<K, V>) -> Vec<(K, V)> {
    let mut sums: Vec<(K, V)> = sums.into_iter().collect();
    sums.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    sums
}

fn read_mark(transaction: &Transaction<'_>, stream: &StreamId) -> Worked<Sequence> {
    let mut find = transaction.prepare_cached(sql::usage::FIND_MARK)?;
    let parameters = (stream.node.as_str(), stored(stream.epoch), stream.thread);
    let next = find.query_row(parameters, first_count).optional()?;
    Ok(Sequence(next.unwrap_or(0)))
}

/// Moves the mark; the stream's row.
fn put_mark(transaction: &Transaction<'_>, stream: &StreamId, next: Sequence) -> Worked<i64> {
    let mut put = transaction.prepare_cached(sql::usage::PUT_STREAM)?;
    let (epoch, next) = (stored(stream.epoch), stored(next.0));
    let parameters = (stream.node.as_str(), epoch, stream.thread, next);
    Ok(put.query_row(parameters, |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;
    use tollgate_store::testing::{batch, event, stream};

    use super::*;

    #[test]
    fn a_command_that_waits_ends_the_run_after_the_batch_that_is_under_way() {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::migrate::migrate(&mut connection).unwrap();
        let mut writer = Writer::new(connection);
        let part = |first: u32| {
            let events = (first..first + 2).map(event).collect();
            Arc::new(batch(stream(0), u64::from(first), events))
        };
        let mut run = vec![part(0), part(2), part(4)];
        assert_eq!(take_in(&mut writer, &run, &|| true).unwrap(), 1);
        run.remove(0);
        assert_eq!(take_in(&mut writer, &run, &|| false).unwrap(), 2);
    }
}
