//! Taking in batches: marks, records, buckets, periods and totals in one transaction.
//!
//! The hot path of the adapter. Records are sent by binary COPY straight into their partitions,
//! while their sums are added up here; what many events add to one row (buckets, periods, totals,
//! last use) is added up over all batches of the transaction and written once, by one statement a
//! table over arrays.
//!
//! **Once.** A batch fits where it begins at its stream's mark, which moves in the same transaction.
//! Should a mark ever lie behind its records (a table restored alone), the unique index on an
//! entry's identity refuses them, and the whole transaction with them: a record left out silently
//! would leave its units in the buckets.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use tollgate_model::{KeyId, Outcome, Sequence, StreamId, SubscriptionId, Timestamp, UsageEvent};
use tollgate_store::{IngestBatch, OutcomeTotals, PeriodScope, StoreErrorKind};

use super::hot::{HotBuckets, Place};
use super::intake::WriterRow;
use super::{record_rows, scope_columns};
use crate::columns::{Columns, stored};
use crate::copy::Copy;
use crate::failure::{Failure, Worked};
use crate::sql;

/// Takes in the first batches, until one does not fit; how many. The writer's row is locked.
pub(super) async fn take_in(
    transaction: &Transaction<'_>,
    hot: &mut HotBuckets,
    row: &mut WriterRow,
    batches: &[Arc<IngestBatch>],
) -> Worked<usize> {
    let mut sums = Sums::default();
    let mut fitting = 0;
    for batch in batches {
        if !sums.claim(transaction, batch).await? {
            break;
        }
        fitting += 1;
    }
    let taken = batches.get(..fitting).unwrap_or_default();
    if taken.is_empty() {
        return Err(Failure::Refused(
            StoreErrorKind::Conflict,
            "the range does not begin at the stream's mark",
        ));
    }
    fail::fail_point!("ingest-claimed", |how| Err(
        how.map_or_else(|| std::process::abort(), |_| Failure::Silent)
    ));
    let buckets = taken.iter().flat_map(|batch| &batch.buckets);
    let places = hot.load(transaction, buckets, &mut row.bucket).await?;
    let mut adding = Adding {
        hot,
        places: places.into_iter(),
        sums: &mut sums,
    };
    let sent = copy_records(transaction, &mut adding, row, taken).await;
    sent.map_err(in_twice)?;
    hot.write(transaction).await?;
    sums.write(transaction).await?;
    fail::fail_point!("ingest-written", |how| Err(
        how.map_or_else(|| std::process::abort(), |_| Failure::Silent)
    ));
    Ok(fitting)
}

fn in_twice(failure: Failure) -> Failure {
    if failure.kind() == StoreErrorKind::AlreadyExists {
        return Failure::Unfit(
            "records of this range are there already, although the stream's mark says that they \
             are not: tables of different times were put together"
                .to_owned(),
        );
    }
    failure
}

/// Where batches are added up.
struct Adding<'a, 'b> {
    hot: &'a mut HotBuckets,
    /// Of every bucket of every batch, in order.
    places: std::vec::IntoIter<Place>,
    sums: &'a mut Sums<'b>,
}

impl<'b> Adding<'_, 'b> {
    fn add(&mut self, batch: &'b IngestBatch) -> Worked<()> {
        self.sums.add_batch(batch);
        for bucket in &batch.buckets {
            let place = self.places.next().ok_or(Failure::Unreadable("bucket"))?;
            self.hot.add(place, bucket)?;
        }
        Ok(())
    }
}

/// Sends the records, and adds the batches up while the server takes them.
async fn copy_records<'b>(
    transaction: &Transaction<'_>,
    adding: &mut Adding<'_, 'b>,
    row: &mut WriterRow,
    batches: &'b [Arc<IngestBatch>],
) -> Worked<()> {
    let events = batches
        .iter()
        .map(|batch| batch.events.len())
        .sum::<usize>();
    let mut copy = None;
    for batch in batches {
        let stream = adding.sums.row_of(&batch.stream)?;
        for taken in &batch.events {
            let copy = match &mut copy {
                Some(copy) => copy,
                none => none.insert(record_rows::begin(transaction).await?),
            };
            row.place += 1;
            let origin = record_rows::Origin {
                place: row.place,
                sequence: taken.sequence,
                stream,
                received_at: batch.received_at,
            };
            record_rows::write(copy.rows(), &taken.event, &origin)?;
            copy.send().await?;
        }
        adding.add(batch)?;
    }
    let kept = match copy {
        Some(copy) => Copy::finish(copy).await?,
        None => 0,
    };
    if kept == events as u64 {
        Ok(())
    } else {
        Err(Failure::Unreadable("number of records"))
    }
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
    /// Whether the batch begins at its stream's mark; if so, the mark lies behind it now.
    async fn claim(
        &mut self,
        transaction: &Transaction<'_>,
        batch: &'b IngestBatch,
    ) -> Worked<bool> {
        match self.streams.entry(&batch.stream) {
            Entry::Occupied(mut known) => {
                let fits = known.get().next == batch.first;
                if fits {
                    known.get_mut().next = batch.next;
                }
                Ok(fits)
            }
            Entry::Vacant(place) => {
                let mark = find_mark(transaction, &batch.stream).await?;
                let (next, row) = mark.unwrap_or_default();
                if next != batch.first {
                    return Ok(false);
                }
                place.insert(Stream {
                    row: match mark {
                        Some(_) => row,
                        None => put_mark(transaction, &batch.stream, batch.next).await?,
                    },
                    next: batch.next,
                    totals: OutcomeTotals::default(),
                });
                Ok(true)
            }
        }
    }

    fn row_of(&self, stream: &StreamId) -> Worked<i64> {
        let known = self.streams.get(stream);
        known.map(|s| s.row).ok_or(Failure::Unreadable("stream"))
    }

    fn add_batch(&mut self, batch: &'b IngestBatch) {
        for period in &batch.periods {
            let units = self.periods.entry((&period.scope, period.start));
            add(units.or_default(), period.units);
        }
        if let Some(stream) = self.streams.get_mut(&batch.stream) {
            for taken in &batch.events {
                stream.totals.add(taken.event.outcome, taken.event.units);
            }
        }
        for taken in &batch.events {
            self.add(&taken.event);
        }
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

    async fn write(self, transaction: &Transaction<'_>) -> Worked<()> {
        write_streams(transaction, self.streams).await?;
        let periods = in_order(self.periods);
        if !periods.is_empty() {
            let scopes = periods.iter().map(|((scope, _), _)| scope_columns(scope));
            let (kinds, ids): (Vec<&str>, Vec<&str>) = scopes.unzip();
            let starts: Vec<i64> = periods.iter().map(|((_, start), _)| start.0).collect();
            let units: Vec<i64> = periods.iter().map(|(_, units)| stored(*units)).collect();
            let add = transaction.prepare_cached(sql::usage::ADD_PERIOD).await?;
            transaction
                .execute(&add, &[&kinds, &ids, &starts, &units])
                .await?;
        }
        let scopes = in_order(self.scopes);
        if !scopes.is_empty() {
            let (kinds, ids): (Vec<&str>, Vec<&str>) =
                scopes.iter().map(|(scope, _)| *scope).unzip();
            let units: Vec<i64> = scopes.iter().map(|(_, units)| stored(*units)).collect();
            let add = transaction
                .prepare_cached(sql::usage::ADD_SCOPE_TOTAL)
                .await?;
            transaction.execute(&add, &[&kinds, &ids, &units]).await?;
        }
        let used = in_order(self.last_used);
        if !used.is_empty() {
            let (keys, subscriptions): (Vec<&str>, Vec<&str>) =
                used.iter().map(|(pair, _)| *pair).unzip();
            let at: Vec<i64> = used.iter().map(|(_, at)| *at).collect();
            let add = transaction.prepare_cached(sql::usage::ADD_KEY_USE).await?;
            transaction
                .execute(&add, &[&keys, &subscriptions, &at])
                .await?;
        }
        Ok(())
    }
}

/// Moves every mark, and adds to the streams' totals.
async fn write_streams(
    transaction: &Transaction<'_>,
    streams: HashMap<&StreamId, Stream>,
) -> Worked<()> {
    let (mut rows, mut outcomes) = (Vec::new(), Vec::new());
    let (mut all_events, mut all_units) = (Vec::new(), Vec::new());
    for (id, stream) in streams {
        put_mark(transaction, id, stream.next).await?;
        let totals = stream.totals;
        let by_outcome = totals.events.into_iter().zip(totals.units);
        for (outcome, (events, units)) in Outcome::ALL.iter().zip(by_outcome) {
            if events > 0 {
                rows.push(stream.row);
                outcomes.push(outcome.as_str());
                all_events.push(stored(events));
                all_units.push(stored(units));
            }
        }
    }
    if rows.is_empty() {
        return Ok(());
    }
    let add = transaction
        .prepare_cached(sql::usage::ADD_STREAM_TOTALS)
        .await?;
    transaction
        .execute(&add, &[&rows, &outcomes, &all_events, &all_units])
        .await?;
    Ok(())
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

/// The stream's mark and row.
async fn find_mark(
    transaction: &Transaction<'_>,
    stream: &StreamId,
) -> Worked<Option<(Sequence, i64)>> {
    let find = transaction.prepare_cached(sql::usage::FIND_MARK).await?;
    let (epoch, thread) = (stored(stream.epoch), i32::from(stream.thread));
    let row = transaction
        .query_opt(&find, &[&stream.node.as_str(), &epoch, &thread])
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let mut columns = Columns::of(&row);
    Ok(Some((Sequence(columns.number()?), columns.get("stream")?)))
}

/// Moves the mark; the stream's row.
async fn put_mark(transaction: &Transaction<'_>, stream: &StreamId, next: Sequence) -> Worked<i64> {
    let put = transaction.prepare_cached(sql::usage::PUT_STREAM).await?;
    let (epoch, thread) = (stored(stream.epoch), i32::from(stream.thread));
    let next = stored(next.0);
    let row = transaction
        .query_one(&put, &[&stream.node.as_str(), &epoch, &thread, &next])
        .await?;
    Columns::of(&row).get("stream")
}
