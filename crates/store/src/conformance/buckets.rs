//! Guarantees of buckets.

use tollgate_model::{
    ApiId, BucketKey, Counts, Family, Grain, LatencySketch, OrganizationId, PlanId, SubscriptionId,
    Timestamp, UsageBucket, UsageEvent,
};

use super::Checked;
use crate::testing::{BEGIN, HOUR_US, after, batch, bucket_key, event, stream};
use crate::{BucketQuery, IngestBatch, Store};

fn every(family: Family, grain: Grain) -> BucketQuery {
    BucketQuery {
        family,
        grain,
        from: Timestamp(0),
        to: after(10_000_000),
        api: None,
        organization: None,
        subscription: None,
        plan: None,
        dimension: None,
        include_test: true,
        merge_starts: false,
    }
}

fn with_buckets(first: u64, buckets: Vec<UsageBucket>) -> IngestBatch {
    IngestBatch {
        next: tollgate_model::Sequence(first + 1),
        buckets,
        ..batch(stream(0), first, Vec::new())
    }
}

fn bucket(key: BucketKey, requests: u64) -> UsageBucket {
    UsageBucket {
        key,
        counts: Counts {
            requests,
            ..Counts::default()
        },
        latency: None,
    }
}

/// Every sum, and the longest latency.
pub async fn buckets_add_up_over_batches(store: &dyn Store) -> Checked {
    let key = bucket_key(Family::Key, Grain::Hour, &event(0));
    let first = Counts {
        requests: 1,
        units: 2,
        denied: 3,
        errors: 4,
        client_errors: 5,
        server_errors: 6,
        bytes_in: 7,
        bytes_out: 8,
        latencies: 9,
        latency_sum_us: 10,
        latency_max_us: 11,
    };
    let second = Counts {
        latency_max_us: 5,
        units: 1 << 40,
        ..first
    };
    let mut expected = first;
    expected.add(&second);
    for (n, counts) in (0..).zip([first, second]) {
        let added = UsageBucket {
            counts,
            ..bucket(key.clone(), 0)
        };
        store.ingest(with_buckets(n, vec![added])).await?;
    }
    let found = store.list_buckets(&every(Family::Key, Grain::Hour)).await?;
    let expected = UsageBucket {
        counts: expected,
        ..bucket(key, 0)
    };
    assert_eq!(found, [expected]);
    Ok(())
}

/// However the latencies were spread over batches, also where a batch had none.
pub async fn sketches_merge_over_batches(store: &dyn Store) -> Checked {
    let key = bucket_key(Family::Api, Grain::Hour, &event(0));
    let mut whole = LatencySketch::new();
    for part in 0..5u64 {
        let latency = (part != 1 && part != 3).then(|| {
            let mut sketch = LatencySketch::new();
            for us in (part * 1_000..(part + 1) * 1_000).map(|n| n * 17) {
                sketch.add(us);
                whole.add(us);
            }
            sketch
        });
        let added = UsageBucket {
            latency,
            ..bucket(key.clone(), 1)
        };
        store.ingest(with_buckets(part, vec![added])).await?;
    }
    let found = store.list_buckets(&every(Family::Api, Grain::Hour)).await?;
    let sketch = found.first().and_then(|bucket| bucket.latency.as_ref());
    let read = |sketch: &LatencySketch| {
        let quantiles = [0.0, 0.5, 0.9, 0.99, 1.0].map(|q| sketch.quantile_us(q));
        (sketch.count(), quantiles)
    };
    assert_eq!(sketch.map(read), Some(read(&whole)));
    Ok(())
}

/// The order is that of [`BucketKey`].
pub async fn buckets_come_by_rising_key(store: &dyn Store) -> Checked {
    let mut keys = Vec::new();
    for n in 0..128u32 {
        let bit = |place: u32| n & (1 << place) != 0;
        keys.push(BucketKey {
            family: Family::Route,
            grain: Grain::Hour,
            start: BEGIN.plus_us(if bit(0) { HOUR_US } else { 0 }),
            api: ApiId::new(if bit(1) { "b" } else { "a" }),
            organization: bit(2).then(|| OrganizationId::new("acme")),
            subscription: bit(3).then(|| SubscriptionId::new("acme")),
            plan: if bit(4) { "free" } else { "" }.to_owned(),
            dimension: if bit(5) { "/ä" } else { "/z" }.to_owned(),
            test: bit(6),
        });
    }
    let buckets = keys.iter().map(|key| bucket(key.clone(), 1)).collect();
    store.ingest(with_buckets(0, buckets)).await?;
    let found = store
        .list_buckets(&every(Family::Route, Grain::Hour))
        .await?;
    keys.sort();
    let found: Vec<BucketKey> = found.into_iter().map(|bucket| bucket.key).collect();
    assert_eq!(found, keys);
    Ok(())
}

type Condition = (&'static str, fn(&mut BucketQuery, &BucketKey));

const CONDITIONS: [Condition; 6] = [
    ("from, to", |query, odd| {
        query.from = odd.start;
        query.to = odd.start.plus_us(HOUR_US);
    }),
    ("api", |query, odd| query.api = Some(odd.api.clone())),
    ("organization", |query, odd| {
        query.organization = odd.organization.clone();
    }),
    ("subscription", |query, odd| {
        query.subscription = odd.subscription.clone();
    }),
    ("plan", |query, odd| {
        query.plan = Some(PlanId::new(&odd.plan))
    }),
    ("dimension", |query, odd| {
        query.dimension = Some(odd.dimension.clone());
    }),
];

/// One odd bucket among usual ones, found by each part of its name.
pub async fn every_condition_filters_buckets(store: &dyn Store) -> Checked {
    let usual = bucket_key(Family::Route, Grain::Hour, &event(0));
    let odd = BucketKey {
        start: BEGIN.plus_us(2 * HOUR_US),
        api: ApiId::new("odd-api"),
        organization: Some(OrganizationId::new("odd-org")),
        subscription: Some(SubscriptionId::new("odd")),
        plan: "odd-plan".to_owned(),
        dimension: "/odd".to_owned(),
        ..usual.clone()
    };
    let (mut minute, mut status) = (odd.clone(), odd.clone());
    (minute.grain, status.family) = (Grain::Minute, Family::Status);
    let (mut later, mut test) = (usual.clone(), usual.clone());
    (later.start, test.test) = (BEGIN.plus_us(3 * HOUR_US), true);
    let keys = [&usual, &odd, &minute, &status, &later, &test];
    let buckets = keys.map(|key| bucket(key.clone(), 1)).into();
    store.ingest(with_buckets(0, buckets)).await?;
    let all = BucketQuery {
        include_test: false,
        ..every(Family::Route, Grain::Hour)
    };
    for (name, narrow) in CONDITIONS {
        for merge_starts in [false, true] {
            let mut query = BucketQuery {
                merge_starts,
                ..all.clone()
            };
            narrow(&mut query, &odd);
            let mut expected = bucket(odd.clone(), 1);
            if merge_starts {
                expected.key.start = Timestamp::default();
            }
            let found = store.list_buckets(&query).await?;
            assert_eq!(found, [expected], "{name}");
        }
    }
    assert_eq!(store.list_buckets(&all).await?.len(), 3);
    let with_test = BucketQuery {
        include_test: true,
        ..all
    };
    assert_eq!(store.list_buckets(&with_test).await?.len(), 4);
    Ok(())
}

/// One bucket for each key that differs in more than its start.
pub async fn merged_starts_add_up_whole_spans(store: &dyn Store) -> Checked {
    let hours = |route: &str| -> Vec<UsageEvent> {
        (0..4)
            .map(|n| UsageEvent {
                at: BEGIN.plus_us(i64::from(n) * HOUR_US),
                route: route.into(),
                ..event(n)
            })
            .collect()
    };
    store.ingest(batch(stream(0), 0, hours("/a"))).await?;
    store.ingest(batch(stream(0), 4, hours("/b"))).await?;
    let query = BucketQuery {
        from: BEGIN.plus_us(HOUR_US),
        to: BEGIN.plus_us(4 * HOUR_US),
        merge_starts: true,
        ..every(Family::Route, Grain::Hour)
    };
    let found = store.list_buckets(&query).await?;
    let mut expected = Counts::default();
    for event in hours("/a").iter().skip(1) {
        expected.add(&Counts::of(event));
    }
    let seen: Vec<(&str, Timestamp, Counts, Option<u64>)> = found
        .iter()
        .map(|b| {
            let latencies = b.latency.as_ref().map(LatencySketch::count);
            (b.key.dimension.as_str(), b.key.start, b.counts, latencies)
        })
        .collect();
    let start = Timestamp::default();
    assert_eq!(
        seen,
        [
            ("/a", start, expected, Some(3)),
            ("/b", start, expected, Some(3))
        ]
    );
    Ok(())
}

/// Hours and days stay, and so do minutes that began at the instant or later.
pub async fn only_old_minute_buckets_are_dropped(store: &dyn Store) -> Checked {
    let sent = vec![event(0), event(60), event(120), event(180)];
    store.ingest(batch(stream(0), 0, sent)).await?;
    assert_eq!(store.drop_minute_buckets(after(120)).await?, 2);
    let minutes = store
        .list_buckets(&every(Family::Route, Grain::Minute))
        .await?;
    let starts: Vec<Timestamp> = minutes.iter().map(|bucket| bucket.key.start).collect();
    assert_eq!(starts, [after(120), after(180)]);
    for (family, grain) in [(Family::Route, Grain::Hour), (Family::Api, Grain::Day)] {
        let kept = store.list_buckets(&every(family, grain)).await?;
        assert_eq!(kept.first().map(|b| b.counts.requests), Some(4));
    }
    assert_eq!(store.drop_minute_buckets(after(120)).await?, 0);
    Ok(())
}

/// What a store cannot hold stays at its largest number, which is at least 2^63 - 1.
pub async fn sums_never_wrap(store: &dyn Store) -> Checked {
    const LARGE: u64 = i64::MAX as u64;
    let key = bucket_key(Family::Key, Grain::Hour, &event(0));
    for n in 0..3 {
        let large = bucket(key.clone(), LARGE);
        store.ingest(with_buckets(n, vec![large])).await?;
    }
    let found = store.list_buckets(&every(Family::Key, Grain::Hour)).await?;
    assert!(found.first().is_some_and(|b| b.counts.requests >= LARGE));
    Ok(())
}
