//! Answers over random events equal what is summed up naively over the events themselves.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::{NOW, Seed, SetClock, event_of, seeds, stream};
use crate::question::{
    Every, Filter, GroupBy, RecordsQuestion, Span, SpanInput, StatsQuestion, Top, TopBy,
    TopQuestion, TrendsQuestion, UNNAMED,
};
use crate::{Ingest, Metering, MeteringError, MinuteRetention};
use jiff::tz::TimeZone;
use proptest::prelude::*;
use tollgate_model::{
    ApiId, Counts, KeyId, LatencySketch, OrganizationId, Outcome, PlanId, Sequence, SubscriptionId,
    Timestamp, UsageEvent,
};
use tollgate_store::testing::{HOUR_US, SECOND_US};
use tollgate_store::{IngestedEvent, MemoryStore, UsageStore};
use tollgate_store_sqlite::{Options, SqliteStore};

const MINUTE_US: i64 = 60 * SECOND_US;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

async fn metering_of(events: &[UsageEvent]) -> Metering {
    metering_over(Arc::new(MemoryStore::default()), events).await
}

/// Takes the events in, a few at a time, and forgets minute buckets that are past their keep.
async fn metering_over(store: Arc<dyn UsageStore>, events: &[UsageEvent]) -> Metering {
    let clock = SetClock::at(NOW);
    let ingest = Ingest::new(clock.clone());
    let mut next = 0;
    for part in events.chunks(23) {
        let taken: Vec<IngestedEvent> = (next..)
            .zip(part)
            .map(|(place, event)| IngestedEvent {
                sequence: Sequence(place),
                event: event.clone(),
            })
            .collect();
        let end = next + part.len() as u64;
        let batch = ingest.prepare(stream(1, 0), Sequence(next), Sequence(end), taken);
        store.ingest(batch).await.unwrap();
        next = end;
    }
    MinuteRetention::new(store.clone(), clock.clone())
        .reconcile()
        .await
        .unwrap();
    Metering::new(store, clock)
}

/// The in-memory store, or a real one in a folder that goes with the guard.
fn store(real: bool) -> (Arc<dyn UsageStore>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn UsageStore> = if real {
        let file = folder.path().join("usage.db");
        Arc::new(SqliteStore::open(&file, &Options::default()).unwrap())
    } else {
        Arc::new(MemoryStore::default())
    };
    (store, folder)
}

fn events_of(seeds: &[Seed]) -> Vec<UsageEvent> {
    seeds
        .iter()
        .enumerate()
        .map(|(n, seed)| event_of(n, seed))
        .collect()
}

fn passes(filter: &Filter, event: &UsageEvent) -> bool {
    fn same<T: PartialEq>(wanted: &Option<T>, held: Option<&T>) -> bool {
        wanted.is_none() || wanted.as_ref() == held
    }
    same(&filter.subscription, event.subscription.as_ref())
        && same(&filter.organization, event.organization.as_ref())
        && same(&filter.api, Some(&event.api))
        && same(&filter.key, event.key.as_ref())
        && same(&filter.plan, event.plan.as_ref())
        && filter
            .route
            .as_deref()
            .is_none_or(|route| *route == *event.route)
        && (filter.include_test || !event.test)
}

fn inside<'a>(
    events: &'a [UsageEvent],
    filter: &Filter,
    from: Timestamp,
    to: Timestamp,
) -> Vec<&'a UsageEvent> {
    events
        .iter()
        .filter(|event| from <= event.at && event.at < to && passes(filter, event))
        .collect()
}

fn counts_of(events: &[&UsageEvent]) -> Counts {
    let mut counts = Counts::default();
    for event in events {
        counts.add(&Counts::of(event));
    }
    counts
}

fn filters() -> impl Strategy<Value = Filter> {
    let maybe = || prop::option::weighted(0.25, 0u8..5);
    (
        maybe(),
        maybe(),
        maybe(),
        maybe(),
        maybe(),
        maybe(),
        any::<bool>(),
    )
        .prop_map(
            |(subscription, organization, api, key, route, plan, include_test)| Filter {
                subscription: subscription.map(|n| SubscriptionId::new(&format!("sub-{n}"))),
                organization: organization.map(|n| OrganizationId::new(&format!("org-{n}"))),
                api: api.map(|n| ApiId::new(&format!("api-{}", n % 2))),
                key: key.map(|n| KeyId::new(&format!("key-{n}"))),
                route: route.map(|n| format!("/r-{n}")),
                plan: plan.map(|n| PlanId::new(&format!("plan-{}", n % 2))),
                include_test,
            },
        )
}

/// Two instants of the last five days, on no boundary in particular; now and then on one.
fn spans() -> impl Strategy<Value = (Timestamp, Timestamp)> {
    let grain = prop_oneof![Just(1), Just(SECOND_US), Just(MINUTE_US), Just(HOUR_US)];
    (0..120 * HOUR_US, 0..120 * HOUR_US, grain).prop_filter_map("empty", |(a, b, grain)| {
        let (early, late) = (a.max(b), a.min(b));
        let from = Timestamp(NOW.0 - early).floor_to(grain);
        let to = Timestamp(NOW.0 - late).floor_to(grain);
        (from < to).then_some((from, to))
    })
}

fn naive_top(
    events: &[&UsageEvent],
    name: impl Fn(&UsageEvent) -> Option<String>,
) -> Vec<(String, Counts)> {
    let mut groups: BTreeMap<String, Counts> = BTreeMap::new();
    for event in events {
        if let Some(name) = name(event) {
            groups.entry(name).or_default().add(&Counts::of(event));
        }
    }
    let mut ranked: Vec<(String, Counts)> = groups.into_iter().collect();
    ranked.sort_by(|a, b| b.1.requests.cmp(&a.1.requests).then(a.0.cmp(&b.0)));
    ranked
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn stats_equal_the_sum_over_the_events(
        seeds in seeds(125 * HOUR_US, 250),
        filter in filters(),
        (from, to) in spans(),
        real in prop::bool::weighted(0.1),
    ) {
        block_on(async {
            let events = events_of(&seeds);
            let (store, _folder) = store(real);
            let metering = metering_over(store, &events).await;
            let span = Span::exact(from, to).unwrap();
            let question = StatsQuestion { span, filter: filter.clone(), quota: None };
            let stats = metering.stats(&question).await.unwrap();
            let events = inside(&events, &filter, from, to);
            let counts = counts_of(&events);
            prop_assert_eq!(stats.requests, counts.requests);
            prop_assert_eq!(stats.units, counts.units);
            prop_assert_eq!(stats.denied, counts.denied);
            prop_assert_eq!(stats.errors, counts.errors);
            prop_assert_eq!(stats.client_errors, counts.client_errors);
            prop_assert_eq!(stats.server_errors, counts.server_errors);
            prop_assert_eq!(stats.bytes_in, counts.bytes_in);
            prop_assert_eq!(stats.bytes_out, counts.bytes_out);
            let passed = counts.requests - counts.denied;
            let rate = if passed == 0 { 0.0 } else { counts.errors as f64 / passed as f64 };
            prop_assert!((stats.error_rate - rate).abs() < 1e-9);

            let mut by_status: BTreeMap<u16, u64> = BTreeMap::new();
            for event in &events {
                *by_status.entry(event.status).or_default() += u64::from(event.count);
            }
            prop_assert_eq!(stats.by_status, Some(by_status));
            prop_assert!(!stats.statuses_in_whole_hours);
            let classes = stats.by_class.unwrap();
            let listed = classes.caller + classes.refused + classes.upstream + classes.ours
                + classes.timeout;
            prop_assert_eq!(listed, counts.errors + counts.denied);

            let forwarded: Vec<u64> = events
                .iter()
                .filter(|event| event.outcome == Outcome::Forwarded)
                .map(|event| event.latency_us)
                .collect();
            prop_assert_eq!(stats.latency.max_us, forwarded.iter().max().copied());
            let mean = forwarded.iter().sum::<u64>().checked_div(forwarded.len() as u64);
            prop_assert_eq!(stats.latency.mean_us, mean);
            let mut sketch = LatencySketch::new();
            forwarded.iter().for_each(|us| sketch.add(*us));
            let p95 = sketch.quantile_us(0.95).map(|us| us.min(stats.latency.max_us.unwrap()));
            prop_assert_eq!(stats.latency.p95_us, p95);
            let bars: u64 = stats.latency_histogram.iter().map(|bar| bar.count).sum();
            prop_assert_eq!(bars, forwarded.len() as u64);
            Ok(())
        })?;
    }

    #[test]
    fn rankings_equal_those_over_the_events(
        seeds in seeds(60 * HOUR_US, 200),
        filter in filters(),
        (from, to) in spans(),
        real in prop::bool::weighted(0.1),
    ) {
        block_on(async {
            let events = events_of(&seeds);
            let (store, _folder) = store(real);
            let metering = metering_over(store, &events).await;
            let events = inside(&events, &filter, from, to);
            for by in TopBy::ALL {
                let question = TopQuestion {
                    span: Span::exact(from, to).unwrap(),
                    filter: filter.clone(),
                    by,
                    limit: 3,
                };
                let Top { items } = metering.top(&question).await.unwrap();
                let mut expected = naive_top(&events, |event| match by {
                    TopBy::Route => Some(event.route.to_string()),
                    TopBy::Key => event.key.as_ref().map(|id| id.to_string()),
                    TopBy::Organization => event.organization.as_ref().map(|id| id.to_string()),
                    TopBy::Address => event.address.map(|address| address.to_string()),
                    TopBy::Country => event
                        .country
                        .map(|code| String::from_utf8_lossy(&code).into_owned()),
                });
                expected.truncate(3);
                let expected: Vec<_> = expected
                    .into_iter()
                    .map(|(name, c)| (name, c.requests, c.units, c.denied, c.errors))
                    .collect();
                let items: Vec<_> = items
                    .into_iter()
                    .map(|i| (i.name, i.requests, i.units, i.denied, i.errors))
                    .collect();
                prop_assert_eq!(items, expected, "{:?}", by);
            }
            Ok(())
        })?;
    }

    #[test]
    fn trends_equal_the_sum_over_the_events_point_by_point(
        seeds in seeds(30 * HOUR_US, 200),
        filter in filters(),
        (from, to) in spans(),
        real in prop::bool::weighted(0.1),
        group in 0usize..8,
        zone in prop::sample::select(vec!["UTC", "Asia/Kolkata", "Europe/Berlin"]),
        every in prop::sample::select(vec![Every::Minute, Every::Hour, Every::Day]),
    ) {
        let group_by = [
            None,
            Some(GroupBy::Route),
            Some(GroupBy::Key),
            Some(GroupBy::Organization),
            Some(GroupBy::Plan),
            Some(GroupBy::Status),
            Some(GroupBy::Country),
            Some(GroupBy::Label("source".to_owned())),
        ][group].clone();
        let group_name = |event: &UsageEvent| -> Option<String> {
            let or_unnamed = |name: Option<String>| Some(name.unwrap_or(UNNAMED.to_owned()));
            match &group_by {
                None => Some(String::new()),
                Some(GroupBy::Route) => Some(event.route.to_string()),
                Some(GroupBy::Key) => or_unnamed(event.key.as_ref().map(|id| id.to_string())),
                Some(GroupBy::Organization) =>
                    or_unnamed(event.organization.as_ref().map(|id| id.to_string())),
                Some(GroupBy::Plan) => or_unnamed(event.plan.as_ref().map(|id| id.to_string())),
                Some(GroupBy::Status) => Some(event.status.to_string()),
                Some(GroupBy::Country) => or_unnamed(
                    event.country.map(|code| String::from_utf8_lossy(&code).into_owned())),
                Some(GroupBy::Label(name)) => event.labels.iter()
                    .find(|label| *label.name == **name).map(|label| label.value.to_string()),
            }
        };
        block_on(async {
            let events = events_of(&seeds);
            let (store, _folder) = store(real);
            let metering = metering_over(store, &events).await;
            let time_zone = TimeZone::get(zone).unwrap();
            let question = TrendsQuestion {
                span: Span::exact(from, to).unwrap(),
                filter: filter.clone(),
                every,
                group_by: group_by.clone(),
                time_zone: time_zone.clone(),
            };
            let too_many = every == Every::Minute && to.since(from) > 2_900 * MINUTE_US;
            prop_assume!(!(group_by.is_some() && too_many));
            let points = metering.trends(&question).await.unwrap();
            let start_of = |at: Timestamp| match every {
                Every::Day => {
                    let civil = at.to_jiff().to_zoned(time_zone.clone());
                    Timestamp(civil.start_of_day().unwrap().timestamp().as_microsecond())
                }
                Every::Hour => at.floor_to(HOUR_US),
                Every::Minute => at.floor_to(MINUTE_US),
            };
            let mut expected: BTreeMap<(Timestamp, String), Counts> = BTreeMap::new();
            for event in inside(&events, &filter, from, to) {
                if let Some(name) = group_name(event) {
                    expected.entry((start_of(event.at), name)).or_default()
                        .add(&Counts::of(event));
                }
            }
            let mut seen = HashSet::new();
            for point in &points {
                let name = point.group.clone().unwrap_or_default();
                prop_assert!(seen.insert((point.start, name.clone())));
                let counts = expected.remove(&(point.start, name)).unwrap_or_default();
                prop_assert_eq!(point.requests, counts.requests);
                prop_assert_eq!(point.units, counts.units);
                prop_assert_eq!(point.denied, counts.denied);
                prop_assert_eq!(point.errors, counts.errors);
                prop_assert_eq!(point.bytes_out, counts.bytes_out);
            }
            prop_assert!(expected.is_empty(), "missing {:?}", expected);
            // Every start of the span is there, whether or not anything happened.
            let starts: HashSet<Timestamp> = points.iter().map(|point| point.start).collect();
            prop_assert!(starts.contains(&start_of(from)));
            prop_assert!(starts.contains(&start_of(Timestamp(to.0 - 1))));
            Ok(())
        })?;
    }
}

fn seed(ago_us: i64, who: u8, what: u8) -> Seed {
    Seed {
        ago_us,
        who,
        what,
        how: 9,
        latency_us: 1_000,
        units: 1,
    }
}

#[test]
fn test_keys_are_left_out_unless_asked_for() {
    block_on(async {
        let events = events_of(&[seed(1_000, 11, 1), seed(2_000, 1, 1)]);
        let metering = metering_of(&events).await;
        for (include_test, requests) in [(false, 1), (true, 2)] {
            let question = StatsQuestion {
                span: Span::last(HOUR_US, NOW),
                filter: Filter {
                    include_test,
                    ..Filter::default()
                },
                quota: None,
            };
            assert_eq!(metering.stats(&question).await.unwrap().requests, requests);
        }
        let question = RecordsQuestion::in_span(Span::last(HOUR_US, NOW));
        assert_eq!(metering.records(&question).await.unwrap().items.len(), 2);
    });
}

#[test]
fn the_last_seven_days_average_over_seven_days() {
    block_on(async {
        let events = events_of(&[seed(1_000, 1, 1), seed(6 * 24 * HOUR_US, 1, 1)]);
        let metering = metering_of(&events).await;
        let input = SpanInput {
            days: Some(7),
            ..SpanInput::default()
        };
        let question = StatsQuestion {
            span: Span::resolve(input, NOW).unwrap(),
            filter: Filter::default(),
            quota: None,
        };
        let stats = metering.stats(&question).await.unwrap();
        assert_eq!(stats.requests, 2);
        assert!((stats.average_per_day - 2.0 / 7.0).abs() < 1e-12);
    });
}

#[test]
fn the_largest_groups_are_named_and_the_rest_is_other() {
    block_on(async {
        let mut events = Vec::new();
        for n in 0..30u16 {
            for _ in 0..=n {
                let mut event = event_of(events.len(), &seed(HOUR_US, 1, 1));
                event.route = Arc::from(format!("/route/{n:02}"));
                events.push(event);
            }
        }
        let metering = metering_of(&events).await;
        for key in [None, Some(KeyId::new("key-1"))] {
            let question = TrendsQuestion {
                span: Span::last(2 * HOUR_US, NOW),
                // With a key only records can tell routes apart: the answer is the same.
                filter: Filter {
                    key,
                    ..Filter::default()
                },
                every: Every::Hour,
                group_by: Some(GroupBy::Route),
                time_zone: TimeZone::UTC,
            };
            let points = metering.trends(&question).await.unwrap();
            let first: Vec<&str> = points
                .iter()
                .take(20)
                .filter_map(|point| point.group.as_deref())
                .collect();
            assert_eq!(first[0], "/route/29");
            assert_eq!(first[18], "/route/11");
            assert_eq!(first[19], "other");
            let sum: u64 = points.iter().map(|point| point.requests).sum();
            assert_eq!(sum, (1..=30).sum::<u64>());
            let other: u64 = points
                .iter()
                .filter(|point| point.group.as_deref() == Some("other"))
                .map(|point| point.requests)
                .sum();
            assert_eq!(other, (1..=11).sum::<u64>());
        }
    });
}

#[test]
fn a_question_is_refused_rather_than_answered_from_a_part() {
    block_on(async {
        let seeds: Vec<Seed> = (1..=20).map(|n| seed(n * SECOND_US, 1, 1)).collect();
        let metering = metering_of(&events_of(&seeds)).await.with_bounds(10, 10);
        let span = Span::exact(Timestamp(NOW.0 - 30 * MINUTE_US), NOW).unwrap();
        let question = TopQuestion {
            span,
            filter: Filter::default(),
            by: TopBy::Address,
            limit: 5,
        };
        let refused = metering.top(&question).await;
        assert!(matches!(
            refused,
            Err(MeteringError::TooMuch { records_max: 10 })
        ));
        // What an answer can do without is left out, or rounded and said.
        let stats = |filter| StatsQuestion {
            span,
            filter,
            quota: None,
        };
        let whole = metering.stats(&stats(Filter::default())).await.unwrap();
        assert_eq!(whole.by_status.unwrap()[&200], 20);
        assert!(whole.statuses_in_whole_hours);
        let by_route = Filter {
            route: Some("/r-1".to_owned()),
            ..Filter::default()
        };
        let by_route = metering.stats(&stats(by_route)).await.unwrap();
        assert_eq!((by_route.requests, by_route.by_status), (20, None));
    });
}

#[test]
fn what_refuses_calls_is_summed_up_however_many_single_records_there_are() {
    block_on(async {
        // Beyond what minute buckets are kept for, in an hour that the span begins in the middle
        // of, as months of zones like Kolkata's do.
        let ago = |n: i64| 3 * 24 * HOUR_US + n * SECOND_US;
        let seeds: Vec<Seed> = (1..=20).map(|n| seed(ago(n), 1, 1)).collect();
        let metering = metering_of(&events_of(&seeds)).await.with_bounds(10, 10);
        let id = SubscriptionId::new("sub-1");
        let from = Timestamp(NOW.0 - ago(15));
        let used = metering.units_of_subscription(&id, from, NOW).await;
        assert_eq!(used.unwrap(), 15);
        let none = metering.units_of_subscription(&id, NOW, from).await;
        assert_eq!(none.unwrap(), 0);
    });
}

#[test]
fn too_many_points_are_refused_by_name() {
    block_on(async {
        let metering = metering_of(&[]).await;
        let question = |every, group_by| TrendsQuestion {
            span: Span::last(30 * 24 * HOUR_US, NOW),
            filter: Filter::default(),
            every,
            group_by,
            time_zone: TimeZone::UTC,
        };
        let minutes = metering.trends(&question(Every::Minute, None)).await;
        assert!(matches!(
            minutes,
            Err(MeteringError::Invalid { field: "every", .. })
        ));
        let hours = metering
            .trends(&question(Every::Hour, Some(GroupBy::Key)))
            .await
            .unwrap();
        assert_eq!(hours.len(), 721);
        assert!(hours.iter().all(|point| point.requests == 0));
    });
}

#[test]
fn what_a_key_used_is_told_for_today_the_period_and_ever() {
    block_on(async {
        let day = 24 * HOUR_US;
        let events = events_of(&[
            seed(1_000, 1, 1),
            seed(day, 1, 2),
            seed(3 * day, 1, 3),
            seed(1_000, 2, 3),
        ]);
        let metering = metering_of(&events).await;
        let key = KeyId::new("key-1");
        let period = Some(Timestamp(NOW.0 - 2 * day));
        let used = metering
            .usage_of_key(&key, &TimeZone::UTC, period)
            .await
            .unwrap();
        assert_eq!((used.today, used.period, used.total), (1, Some(2), 3));
    });
}
