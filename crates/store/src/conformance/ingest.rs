//! Guarantees of [`UsageStore::ingest`](crate::UsageStore::ingest).

use std::sync::Arc;

use futures_util::future::join_all;
use tollgate_model::{
    Family, Grain, KeyId, NodeId, Outcome, Sequence, StreamId, SubscriptionId, Timestamp,
    UsageBucket, UsageEvent,
};

use super::{Checked, assert_one_wins, refusal};
use crate::testing::{
    BEGIN, after, api_key, bare_event, batch, event, full_event, new_key, stream,
};
use crate::{
    BucketQuery, HighWaterMark, OutcomeTotals, PeriodScope, RecordOrder, RecordQuery, Store,
    StoreErrorKind, StoreResult, UsageRecord,
};

async fn all_records(store: &dyn Store) -> StoreResult<Vec<UsageRecord>> {
    let query = RecordQuery {
        order: RecordOrder::OldestFirst,
        limit: 10_000,
        ..RecordQuery::in_span(Timestamp(0), after(1_000_000))
    };
    Ok(store.list_records(&query).await?.items)
}

async fn api_hours(store: &dyn Store) -> StoreResult<Vec<UsageBucket>> {
    store
        .list_buckets(&BucketQuery {
            family: Family::Api,
            grain: Grain::Hour,
            from: Timestamp(0),
            to: after(1_000_000),
            api: None,
            organization: None,
            subscription: None,
            plan: None,
            dimension: None,
            include_test: true,
            merge_starts: false,
        })
        .await
}

fn events(range: std::ops::Range<u32>) -> Vec<UsageEvent> {
    range.map(event).collect()
}

/// With something in every field, with nothing where nothing may be, and every outcome and code.
pub async fn every_field_of_an_event_survives(store: &dyn Store) -> Checked {
    let mut sent = vec![event(0), full_event(1), bare_event(2)];
    sent.push(UsageEvent {
        key_family: None,
        address: "192.0.2.7".parse().ok(),
        at: after(3),
        ..event(3)
    });
    sent.push(UsageEvent {
        key: None,
        ..event(4)
    });
    for (n, outcome) in (5..).zip(Outcome::ALL) {
        sent.push(UsageEvent {
            outcome,
            ..event(n)
        });
    }
    for (n, code) in (50..).zip(tollgate_model::DenialCode::ALL) {
        sent.push(UsageEvent {
            code: Some(code),
            ..bare_event(n)
        });
    }
    store.ingest(batch(stream(0), 0, sent.clone())).await?;
    let kept = all_records(store).await?;
    assert_eq!(kept.len(), sent.len());
    for (record, event) in kept.into_iter().zip(sent) {
        let expected = UsageRecord {
            event,
            received_at: after(86_400),
            node: Some(NodeId::new("node-a")),
        };
        assert_eq!(record, expected);
    }
    Ok(())
}

/// Nothing else may be its first range.
pub async fn an_unknown_stream_begins_at_zero(store: &dyn Store) -> Checked {
    let refused = store.ingest(batch(stream(0), 1, events(0..1))).await;
    assert_eq!(refusal(&refused), Some(StoreErrorKind::Conflict));
    assert_eq!(store.all_high_water_marks().await?, []);
    let node = NodeId::new("node-a");
    assert_eq!(store.high_water_marks(&node).await?, []);
    Ok(())
}

/// The same range again, an overlapping one, one behind a hole: all refused.
pub async fn a_range_is_taken_in_once_and_without_holes(store: &dyn Store) -> Checked {
    store.ingest(batch(stream(0), 0, events(0..3))).await?;
    for first in [0, 2, 4] {
        let refused = store.ingest(batch(stream(0), first, events(0..3))).await;
        assert_eq!(refusal(&refused), Some(StoreErrorKind::Conflict));
    }
    store.ingest(batch(stream(0), 3, events(3..5))).await?;
    assert_eq!(all_records(store).await?.len(), 5);
    Ok(())
}

/// No record, bucket, unit, total or moment of use.
pub async fn a_refused_batch_leaves_nothing_behind(store: &dyn Store) -> Checked {
    store.write_key(new_key(api_key(1, "acme-widgets"))).await?;
    store.ingest(batch(stream(0), 0, events(0..3))).await?;
    let records = all_records(store).await?;
    let buckets = api_hours(store).await?;
    let marks = store.all_high_water_marks().await?;
    let key = store.find_key(&KeyId::made(1)).await?;
    assert!(
        store
            .ingest(batch(stream(0), 0, events(5..9)))
            .await
            .is_err()
    );
    assert_eq!(all_records(store).await?, records);
    assert_eq!(api_hours(store).await?, buckets);
    assert_eq!(store.all_high_water_marks().await?, marks);
    assert_eq!(store.find_key(&KeyId::made(1)).await?, key);
    let scope = PeriodScope::Subscription(SubscriptionId::new("acme-widgets"));
    assert_eq!(store.period_units(&scope, BEGIN).await?, 3);
    assert_eq!(store.total_units(&scope).await?, 3);
    Ok(())
}

/// The first that does not begin at its mark ends the run, and what lies before it stays; streams
/// may alternate.
pub async fn of_several_batches_those_that_fit_are_taken_in(store: &dyn Store) -> Checked {
    let part = |thread, first: u32, to: u32| {
        let sent = batch(stream(thread), u64::from(first), events(first..to));
        Arc::new(sent)
    };
    let run = vec![part(0, 0, 3), part(1, 0, 2), part(0, 3, 5), part(1, 2, 4)];
    let mut rest = run.clone();
    // A store may take in fewer than fit, never none.
    while !rest.is_empty() {
        let taken = store.ingest_some(rest.clone()).await?;
        assert!((1..=rest.len()).contains(&taken));
        rest.drain(..taken);
    }
    assert_eq!(all_records(store).await?.len(), 9);
    let refused = store.ingest_some(run).await;
    assert_eq!(refusal(&refused), Some(StoreErrorKind::Conflict));
    assert_eq!(store.ingest_some(Vec::new()).await?, 0);
    let with_hole = vec![part(0, 5, 6), part(0, 7, 8), part(1, 4, 5)];
    assert_eq!(store.ingest_some(with_hole).await?, 1);
    assert_eq!(all_records(store).await?.len(), 10);
    let hours = api_hours(store).await?;
    let requests: u64 = hours.iter().map(|bucket| bucket.counts.requests).sum();
    assert_eq!(requests, 10);
    let scope = PeriodScope::Subscription(SubscriptionId::new("acme-widgets"));
    assert_eq!(store.period_units(&scope, BEGIN).await?, 10);
    assert_eq!(store.total_units(&scope).await?, 10);
    Ok(())
}

/// Ten times over: a batch that is shipped again changes no record, bucket, sketch, unit or total.
pub async fn a_batch_shipped_ten_times_counts_once(store: &dyn Store) -> Checked {
    let sent = batch(stream(0), 0, events(0..50));
    store.ingest(sent.clone()).await?;
    let records = all_records(store).await?;
    let buckets = api_hours(store).await?;
    let ledger = store.ledger_totals().await?;
    for _ in 0..10 {
        let refused = store.ingest(sent.clone()).await;
        assert_eq!(refusal(&refused), Some(StoreErrorKind::Conflict));
        // What was refused is not remembered either: the next batch adds what it says.
        let again = Arc::new(sent.clone());
        let many = vec![again.clone(), again.clone(), again];
        let refused = store.ingest_some(many).await;
        assert_eq!(refusal(&refused), Some(StoreErrorKind::Conflict));
    }
    assert_eq!(all_records(store).await?, records);
    assert_eq!(api_hours(store).await?, buckets);
    assert_eq!(store.ledger_totals().await?, ledger);
    store.ingest(batch(stream(0), 50, events(0..1))).await?;
    let hours = api_hours(store).await?;
    let requests: u64 = hours.iter().map(|bucket| bucket.counts.requests).sum();
    assert_eq!(requests, 51);
    Ok(())
}

/// A shipper that repeats itself cannot count twice.
pub async fn of_batches_racing_for_one_range_exactly_one_is_taken_in(store: &dyn Store) -> Checked {
    let racing = (0..8).map(|_| store.ingest(batch(stream(0), 0, events(0..5))));
    assert_one_wins(&join_all(racing).await, StoreErrorKind::Conflict);
    assert_eq!(all_records(store).await?.len(), 5);
    let hours = api_hours(store).await?;
    let requests: u64 = hours.iter().map(|bucket| bucket.counts.requests).sum();
    assert_eq!(requests, 5);
    Ok(())
}

/// Grants and progress are no events; they leave gaps.
pub async fn a_range_without_events_moves_the_mark(store: &dyn Store) -> Checked {
    let mut gap = batch(stream(0), 0, Vec::new());
    gap.next = Sequence(7);
    store.ingest(gap).await?;
    let mark = HighWaterMark {
        stream: stream(0),
        next: Sequence(7),
        totals: OutcomeTotals::default(),
    };
    assert_eq!(store.all_high_water_marks().await?, [mark]);
    let mut sparse = batch(stream(0), 7, events(0..2));
    sparse.next = Sequence(30);
    store.ingest(sparse).await?;
    let marks = store.all_high_water_marks().await?;
    assert_eq!(marks.first().map(|mark| mark.next), Some(Sequence(30)));
    Ok(())
}

/// And listed by rising id, for one gateway or all.
pub async fn streams_are_kept_apart_by_node_epoch_and_thread(store: &dyn Store) -> Checked {
    let id = |node: &str, epoch, thread| StreamId {
        node: NodeId::new(node),
        epoch,
        thread,
    };
    let streams = [
        id("node-a", 1, 0),
        id("node-a", 1, 1),
        id("node-a", 2, 0),
        id("node-b", 1, 0),
    ];
    for (n, stream) in (1..).zip(&streams) {
        store.ingest(batch(stream.clone(), 0, events(0..n))).await?;
    }
    let reached = |marks: Vec<HighWaterMark>| -> Vec<(StreamId, u64)> {
        marks.into_iter().map(|m| (m.stream, m.next.0)).collect()
    };
    let expected: Vec<(StreamId, u64)> = streams.into_iter().zip(1..).collect();
    assert_eq!(reached(store.all_high_water_marks().await?), expected);
    let (node_a, node_b) = expected.split_at(3);
    for (node, expected) in [("node-a", node_a), ("node-b", node_b), ("node-c", &[])] {
        let marks = store.high_water_marks(&NodeId::new(node)).await?;
        assert_eq!(reached(marks), expected);
    }
    Ok(())
}

/// Over batches; what reconciling compares with the journal's own totals.
pub async fn totals_of_a_stream_add_up_by_outcome(store: &dyn Store) -> Checked {
    let mut totals = OutcomeTotals::default();
    let mut first = 0;
    for round in 1..3u32 {
        let mut sent = Vec::new();
        for (n, outcome) in (0..).zip(Outcome::ALL) {
            for n in 0..=n {
                let units = u64::from(round * n);
                totals.add(outcome, units);
                sent.push(UsageEvent {
                    outcome,
                    units,
                    count: 5,
                    ..event(n)
                });
            }
        }
        let taken = sent.len() as u64;
        store.ingest(batch(stream(0), first, sent)).await?;
        first += taken;
    }
    let marks = store.all_high_water_marks().await?;
    assert_eq!(marks.first().map(|mark| mark.totals), Some(totals));
    Ok(())
}

/// Batches of several threads come out of order; keys that are gone do no harm.
pub async fn ingest_moves_last_used_at_forward_only(store: &dyn Store) -> Checked {
    store.write_key(new_key(api_key(1, "acme-widgets"))).await?;
    let used = || async {
        let row = store.find_key(&KeyId::made(1)).await?;
        StoreResult::Ok(row.and_then(|row| row.last_used_at.map(|at| (at, row.version))))
    };
    assert_eq!(used().await?, None);
    let sent = vec![event(5), event(9), event(7), full_event(99)];
    store.ingest(batch(stream(0), 0, sent)).await?;
    assert_eq!(used().await?, Some((after(9), 1)));
    store.ingest(batch(stream(1), 0, events(0..3))).await?;
    assert_eq!(used().await?, Some((after(9), 1)));
    Ok(())
}
