//! Taking in a batch: mark, records, buckets, periods and totals in one transaction.
//!
//! The hot path of the adapter: statements are prepared once per connection, rows bind what the
//! batch holds without copies of our own, and what many events add to one row (totals, units,
//! last use) is added up before it is written.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Transaction, params};
use tollgate_model::{
    KeyId, LatencySketch, OrganizationId, Outcome, Sequence, StreamId, SubscriptionId, UsageBucket,
};
use tollgate_store::{IngestBatch, OutcomeTotals, StoreErrorKind};

use super::record_rows::RecordWriter;
use super::scope_columns;
use crate::columns::{first_count, stored};
use crate::failure::{Failure, Worked};
use crate::sql;

pub(super) fn take_in(transaction: &Transaction<'_>, batch: &IngestBatch) -> Worked<()> {
    if read_mark(transaction, &batch.stream)? != batch.first {
        return Err(Failure::Refused(
            StoreErrorKind::Conflict,
            "the range does not begin at the stream's mark",
        ));
    }
    let stream = move_mark(transaction, batch)?;
    fail::fail_point!("ingest-claimed", |how| Err(
        how.map_or_else(|| std::process::abort(), |_| Failure::Stopped)
    ));
    let mut writer = RecordWriter::new(transaction, batch.received_at, stream)?;
    for taken in &batch.events {
        writer.insert(&taken.event)?;
    }
    for bucket in &batch.buckets {
        add_bucket(transaction, bucket)?;
    }
    let mut add_period = transaction.prepare_cached(sql::usage::ADD_PERIOD)?;
    for period in &batch.periods {
        let (scope, id) = scope_columns(&period.scope);
        add_period.execute((scope, id, period.start.0, stored(period.units)))?;
    }
    add_sums(transaction, batch, stream)
}

fn read_mark(transaction: &Transaction<'_>, stream: &StreamId) -> Worked<Sequence> {
    let mut find = transaction.prepare_cached(sql::usage::FIND_MARK)?;
    let parameters = (stream.node.as_str(), stored(stream.epoch), stream.thread);
    let next = find.query_row(parameters, first_count).optional()?;
    Ok(Sequence(next.unwrap_or(0)))
}

fn move_mark(transaction: &Transaction<'_>, batch: &IngestBatch) -> Worked<i64> {
    let mut put = transaction.prepare_cached(sql::usage::PUT_STREAM)?;
    let parameters = (
        batch.stream.node.as_str(),
        stored(batch.stream.epoch),
        batch.stream.thread,
        stored(batch.next.0),
    );
    Ok(put.query_row(parameters, |row| row.get(0))?)
}

/// What the events add to the stream's totals, to their scopes' totals and to their keys.
fn add_sums(transaction: &Transaction<'_>, batch: &IngestBatch, stream: i64) -> Worked<()> {
    let mut totals = OutcomeTotals::default();
    let mut scopes: HashMap<(&str, &str), u64> = HashMap::new();
    let mut last_used: HashMap<(&str, &str), i64> = HashMap::new();
    for event in batch.events.iter().map(|taken| &taken.event) {
        totals.add(event.outcome, event.units);
        let family = event.key_family.as_ref().or(event.key.as_ref());
        let subscription = event.subscription.as_ref().map(SubscriptionId::as_str);
        let family = family.map(KeyId::as_str);
        for scope in [("subscription", subscription), ("key", family)] {
            if let (kind, Some(id)) = scope {
                let units = scopes.entry((kind, id)).or_default();
                *units = units.saturating_add(event.units);
            }
        }
        if let Some(key) = &event.key {
            let pair = (key.as_str(), subscription.unwrap_or(""));
            let at = last_used.entry(pair).or_insert(event.at.0);
            *at = event.at.0.max(*at);
        }
    }
    let mut add = transaction.prepare_cached(sql::usage::ADD_STREAM_TOTALS)?;
    for ((outcome, events), units) in Outcome::ALL.iter().zip(totals.events).zip(totals.units) {
        if events > 0 {
            add.execute((stream, outcome.as_str(), stored(events), stored(units)))?;
        }
    }
    let mut add = transaction.prepare_cached(sql::usage::ADD_SCOPE_TOTAL)?;
    for ((kind, id), units) in scopes {
        add.execute((kind, id, stored(units)))?;
    }
    let mut add = transaction.prepare_cached(sql::usage::ADD_KEY_USE)?;
    for ((key, subscription), at) in last_used {
        add.execute((key, subscription, at))?;
    }
    Ok(())
}

fn add_bucket(transaction: &Transaction<'_>, bucket: &UsageBucket) -> Worked<()> {
    let latency = match &bucket.latency {
        Some(sketch) => Some(merge_latency(transaction, bucket, sketch)?),
        None => None,
    };
    let (key, counts) = (&bucket.key, &bucket.counts);
    let organization = key.organization.as_ref().map_or("", OrganizationId::as_str);
    let subscription = key.subscription.as_ref().map_or("", SubscriptionId::as_str);
    let mut add = transaction.prepare_cached(sql::usage::ADD_BUCKET)?;
    add.execute(params![
        key.grain.as_str(),
        key.family.as_str(),
        key.start.0,
        key.api.as_str(),
        organization,
        subscription,
        key.plan,
        key.dimension,
        key.test,
        stored(counts.requests),
        stored(counts.units),
        stored(counts.denied),
        stored(counts.errors),
        stored(counts.client_errors),
        stored(counts.server_errors),
        stored(counts.bytes_in),
        stored(counts.bytes_out),
        stored(counts.latencies),
        stored(counts.latency_sum_us),
        stored(counts.latency_max_us),
        latency,
    ])?;
    Ok(())
}

/// The sketch as it will be: what is held and what the batch adds.
fn merge_latency(
    transaction: &Transaction<'_>,
    bucket: &UsageBucket,
    sketch: &LatencySketch,
) -> Worked<Vec<u8>> {
    let key = &bucket.key;
    let mut find = transaction.prepare_cached(sql::usage::FIND_BUCKET_LATENCY)?;
    let mut rows = find.query(params![
        key.grain.as_str(),
        key.family.as_str(),
        key.start.0,
        key.api.as_str(),
        key.organization.as_ref().map_or("", OrganizationId::as_str),
        key.subscription.as_ref().map_or("", SubscriptionId::as_str),
        key.plan,
        key.dimension,
        key.test,
    ])?;
    let held = match rows.next()? {
        Some(row) => row.get_ref(0)?.as_bytes_or_null(),
        None => Ok(None),
    };
    match held.map_err(|_| Failure::Unreadable("latencies"))? {
        None => Ok(sketch.to_bytes()),
        Some(bytes) => {
            let mut merged =
                LatencySketch::from_bytes(bytes).ok_or(Failure::Unreadable("latencies"))?;
            merged.merge(sketch);
            Ok(merged.to_bytes())
        }
    }
}
