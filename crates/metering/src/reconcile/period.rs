//! Requests of a period by records and by buckets, told apart by API and hour.

use std::collections::BTreeMap;

use tollgate_model::{ApiId, Family, Grain, Period, Timestamp};
use tollgate_store::{BucketQuery, RecordOrder, RecordQuery, UsageStore};

use super::ReconcileLine;
use super::advice::Ledgers;
use crate::MeteringResult;

const NAME: &str = "period: requests";
/// Records of one page.
const RECORDS_CHUNK: u32 = 10_000;
/// So often a comparison is begun anew because traffic went on beneath it.
const TRIES: u32 = 10;
/// Most hours that are named; the rest is counted.
const NAMED_MAX: usize = 5;

/// Requests by API and hour.
type Hours = BTreeMap<(ApiId, Timestamp), u64>;

/// Compares them; begun anew while batches come in beneath.
pub(super) async fn line(store: &dyn UsageStore, period: Period) -> MeteringResult<ReconcileLine> {
    let hour = Grain::Hour.span_us();
    let whole =
        period.start.floor_to(hour) == period.start && period.end.floor_to(hour) == period.end;
    if !whole {
        return Ok(ReconcileLine::unchecked(
            NAME,
            "the period does not begin and end on an hour",
        ));
    }
    for _ in 0..TRIES {
        let before = store.all_high_water_marks().await?;
        let records = from_records(store, period).await?;
        let buckets = from_buckets(store, period).await?;
        if store.all_high_water_marks().await? == before {
            return Ok(compared(&records, &buckets));
        }
    }
    Ok(ReconcileLine::unchecked(
        NAME,
        "batches kept coming in; ask again when there is less traffic",
    ))
}

fn compared(records: &Hours, buckets: &Hours) -> ReconcileLine {
    let sum = |hours: &Hours| hours.values().fold(0u64, |sum, n| sum.saturating_add(*n));
    let (left, right) = (sum(records), sum(buckets));
    let mut words = format!("{left} in records, {right} in buckets");
    let differing = differing(records, buckets);
    for (api, hour, in_records, in_buckets) in differing.iter().take(NAMED_MAX) {
        words.push_str(&format!(
            "; API {api}, hour from {hour}: {in_records} in records, {in_buckets} in buckets"
        ));
    }
    if let Some(more @ 1..) = differing.len().checked_sub(NAMED_MAX) {
        words.push_str(&format!("; {more} more hours differ"));
    }
    let mut line = ReconcileLine::compared(NAME, left, right, words);
    // Hours may differ although their sums agree.
    line.ok &= differing.is_empty();
    line.advised(Ledgers::RecordsAndBuckets)
}

fn differing<'a>(records: &'a Hours, buckets: &'a Hours) -> Vec<(&'a ApiId, Timestamp, u64, u64)> {
    let only_in_buckets = buckets.keys().filter(|key| !records.contains_key(*key));
    let count = |hours: &Hours, key| hours.get(key).copied().unwrap_or(0);
    let mut found: Vec<_> = records
        .keys()
        .chain(only_in_buckets)
        .map(|key| (&key.0, key.1, count(records, key), count(buckets, key)))
        .filter(|(_, _, records, buckets)| records != buckets)
        .collect();
    found.sort();
    found
}

async fn from_records(store: &dyn UsageStore, period: Period) -> MeteringResult<Hours> {
    let mut query = RecordQuery::in_span(period.start, period.end);
    query.limit = RECORDS_CHUNK;
    query.order = RecordOrder::OldestFirst;
    let mut hours = Hours::new();
    loop {
        let page = store.list_records(&query).await?;
        for record in page.items {
            let hour = record.event.at.floor_to(Grain::Hour.span_us());
            let requests = hours.entry((record.event.api, hour)).or_default();
            *requests = requests.saturating_add(u64::from(record.event.count));
        }
        match page.next_cursor {
            Some(cursor) => query.cursor = Some(cursor),
            None => return Ok(hours),
        }
    }
}

async fn from_buckets(store: &dyn UsageStore, period: Period) -> MeteringResult<Hours> {
    let query = BucketQuery {
        family: Family::Api,
        grain: Grain::Hour,
        from: period.start,
        to: period.end,
        api: None,
        organization: None,
        subscription: None,
        plan: None,
        dimension: None,
        include_test: true,
        merge_starts: false,
    };
    let mut hours = Hours::new();
    for bucket in store.list_buckets(&query).await? {
        let key = (bucket.key.api, bucket.key.start);
        let requests: &mut u64 = hours.entry(key).or_default();
        *requests = requests.saturating_add(bucket.counts.requests);
    }
    Ok(hours)
}
