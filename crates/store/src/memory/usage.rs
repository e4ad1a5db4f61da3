//! Usage in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use async_trait::async_trait;
use tollgate_model::{BucketKey, Family, Grain, NodeId, Timestamp, UsageBucket, UsageEvent};

use super::{MemoryStore, State, scopes_of};
use crate::{
    BucketQuery, Entity, HighWaterMark, IngestBatch, LedgerTotals, OutcomeTotals, Page,
    PeriodScope, PeriodUnits, RecordCursor, RecordOrder, RecordQuery, StoreError, StoreErrorKind,
    StoreResult, UsageRecord, UsageStore,
};

impl State {
    fn take_in(&mut self, batch: IngestBatch) {
        let node = batch.stream.node.clone();
        let (next, totals) = self.streams.entry(batch.stream).or_default();
        *next = batch.next;
        for taken in batch.events {
            let event = taken.event;
            totals.add(event.outcome, event.units);
            if let Some(row) = event.key.as_ref().and_then(|id| self.keys.get_mut(id)) {
                row.last_used_at = row.last_used_at.max(Some(event.at));
            }
            self.records.push(UsageRecord {
                event,
                received_at: batch.received_at,
                node: Some(node.clone()),
            });
        }
        for bucket in batch.buckets {
            add_bucket(&mut self.buckets, bucket);
        }
        for period in batch.periods {
            let units = self
                .periods
                .entry((period.scope, period.start))
                .or_default();
            *units = units.saturating_add(period.units);
        }
    }

    fn marks(&self, node: Option<&NodeId>) -> Vec<HighWaterMark> {
        self.streams
            .iter()
            .filter(|(stream, _)| node.is_none_or(|id| stream.node == *id))
            .map(|(stream, (next, totals))| HighWaterMark {
                stream: stream.clone(),
                next: *next,
                totals: *totals,
            })
            .collect()
    }

    fn hour_sums(&self, family: Family) -> (u64, u64) {
        self.buckets
            .iter()
            .filter(|(key, _)| key.family == family && key.grain == Grain::Hour)
            .fold((0, 0), |(requests, units), (_, (counts, _))| {
                (
                    requests.saturating_add(counts.requests),
                    units.saturating_add(counts.units),
                )
            })
    }
}

fn add_bucket(
    buckets: &mut BTreeMap<
        BucketKey,
        (
            tollgate_model::Counts,
            Option<tollgate_model::LatencySketch>,
        ),
    >,
    bucket: UsageBucket,
) {
    match buckets.entry(bucket.key) {
        Entry::Vacant(place) => {
            place.insert((bucket.counts, bucket.latency));
        }
        Entry::Occupied(mut held) => {
            let (counts, latency) = held.get_mut();
            counts.add(&bucket.counts);
            match (latency, bucket.latency) {
                (Some(mine), Some(theirs)) => mine.merge(&theirs),
                (mine @ None, theirs) => *mine = theirs,
                (Some(_), None) => {}
            }
        }
    }
}

fn record_matches(query: &RecordQuery, event: &UsageEvent) -> bool {
    fn same<T: PartialEq>(wanted: &Option<T>, held: Option<&T>) -> bool {
        wanted.is_none() || wanted.as_ref() == held
    }
    let route = query.route.as_deref();
    let address = query.address.as_deref();
    (query.from..query.to).contains(&event.at)
        && same(&query.id, Some(&event.id))
        && same(&query.key, event.key.as_ref())
        && same(&query.subscription, event.subscription.as_ref())
        && same(&query.organization, event.organization.as_ref())
        && same(&query.api, Some(&event.api))
        && same(&query.plan, event.plan.as_ref())
        && same(&query.status, Some(&event.status))
        && same(&query.outcome, Some(&event.outcome))
        && same(&query.test, Some(&event.test))
        && route.is_none_or(|route| *route == *event.route)
        && address.is_none_or(|text| event.address.is_some_and(|a| a.to_string() == text))
        && query
            .latency_us_min
            .is_none_or(|least| event.latency_us >= least)
}

fn bucket_matches(query: &BucketQuery, key: &BucketKey) -> bool {
    let dimension = query.dimension.as_ref();
    let plan = query.plan.as_ref();
    let organization = query.organization.as_ref();
    let subscription = query.subscription.as_ref();
    key.family == query.family
        && key.grain == query.grain
        && (query.from..query.to).contains(&key.start)
        && query.api.as_ref().is_none_or(|id| key.api == *id)
        && organization.is_none_or(|id| key.organization.as_ref() == Some(id))
        && subscription.is_none_or(|id| key.subscription.as_ref() == Some(id))
        && plan.is_none_or(|id| key.plan == id.as_str())
        && dimension.is_none_or(|text| key.dimension == *text)
        && (query.include_test || !key.test)
}

#[async_trait]
impl UsageStore for MemoryStore {
    async fn ingest_some(&self, batches: Vec<Arc<IngestBatch>>) -> StoreResult<usize> {
        let mut state = self.state.lock();
        let asked = batches.len();
        let mut taken = 0;
        for batch in batches {
            let mark = state.streams.get(&batch.stream);
            if mark.map_or_else(Default::default, |(next, _)| *next) != batch.first {
                break;
            }
            state.take_in(Arc::unwrap_or_clone(batch));
            taken += 1;
        }
        if taken == 0 && asked > 0 {
            return Err(StoreError::new(StoreErrorKind::Conflict, Entity::Usage));
        }
        Ok(taken)
    }

    async fn high_water_marks(&self, node: &NodeId) -> StoreResult<Vec<HighWaterMark>> {
        Ok(self.state.lock().marks(Some(node)))
    }

    async fn all_high_water_marks(&self) -> StoreResult<Vec<HighWaterMark>> {
        Ok(self.state.lock().marks(None))
    }

    async fn list_buckets(&self, query: &BucketQuery) -> StoreResult<Vec<UsageBucket>> {
        let state = self.state.lock();
        let mut out = BTreeMap::new();
        for (key, (counts, latency)) in &state.buckets {
            if !bucket_matches(query, key) {
                continue;
            }
            let mut key = key.clone();
            if query.merge_starts {
                key.start = Timestamp::default();
            }
            let bucket = UsageBucket {
                key,
                counts: *counts,
                latency: latency.clone(),
            };
            add_bucket(&mut out, bucket);
        }
        let bucket = |(key, (counts, latency))| UsageBucket {
            key,
            counts,
            latency,
        };
        Ok(out.into_iter().map(bucket).collect())
    }

    async fn list_records(&self, query: &RecordQuery) -> StoreResult<Page<UsageRecord>> {
        let cursor = query.find_cursor()?;
        let newest_first = query.order == RecordOrder::NewestFirst;
        let beyond = |place: RecordCursor| match cursor {
            None => true,
            Some(last) if newest_first => place < last,
            Some(last) => place > last,
        };
        let state = self.state.lock();
        let mut found: Vec<(RecordCursor, &UsageRecord)> = (1..)
            .zip(&state.records)
            .filter(|(_, record)| record_matches(query, &record.event))
            .map(|(place, record)| {
                let at = record.event.at;
                (RecordCursor { at, place }, record)
            })
            .filter(|(place, _)| beyond(*place))
            .collect();
        found.sort_by_key(|(place, _)| *place);
        if newest_first {
            found.reverse();
        }
        let more = found.len() > query.records_max() as usize;
        found.truncate(query.records_max() as usize);
        let last = found.last().map(|(place, _)| place.to_string());
        Ok(Page {
            items: found
                .into_iter()
                .map(|(_, record)| record.clone())
                .collect(),
            next_cursor: last.filter(|_| more),
        })
    }

    async fn period_units(&self, scope: &PeriodScope, start: Timestamp) -> StoreResult<u64> {
        let state = self.state.lock();
        let units = state.periods.get(&(scope.clone(), start));
        Ok(units.copied().unwrap_or(0))
    }

    async fn list_period_units(&self, from: Timestamp) -> StoreResult<Vec<PeriodUnits>> {
        let state = self.state.lock();
        Ok(state
            .periods
            .iter()
            .filter(|((_, start), _)| *start >= from)
            .map(|((scope, start), units)| PeriodUnits {
                scope: scope.clone(),
                start: *start,
                units: *units,
            })
            .collect())
    }

    async fn total_units(&self, scope: &PeriodScope) -> StoreResult<u64> {
        let state = self.state.lock();
        Ok(state
            .records
            .iter()
            .filter(|record| scopes_of(&record.event).contains(scope))
            .fold(0, |sum: u64, record| sum.saturating_add(record.event.units)))
    }

    async fn ledger_totals(&self) -> StoreResult<(LedgerTotals, Vec<HighWaterMark>)> {
        let state = self.state.lock();
        let mut records = OutcomeTotals::default();
        let mut record_requests = 0;
        for record in &state.records {
            records.add(record.event.outcome, record.event.units);
            record_requests += u64::from(record.event.count);
        }
        let (bucket_requests, bucket_units) = state.hour_sums(Family::Api);
        let (route_bucket_requests, route_bucket_units) = state.hour_sums(Family::Route);
        let totals = LedgerTotals {
            records,
            record_requests,
            bucket_requests,
            bucket_units,
            route_bucket_requests,
            route_bucket_units,
        };
        Ok((totals, state.marks(None)))
    }

    async fn drop_minute_buckets(&self, before: Timestamp) -> StoreResult<u64> {
        let mut state = self.state.lock();
        let held = state.buckets.len();
        state
            .buckets
            .retain(|key, _| key.grain != Grain::Minute || key.start >= before);
        Ok((held - state.buckets.len()) as u64)
    }
}
