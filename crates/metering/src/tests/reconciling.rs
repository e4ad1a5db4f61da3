//! Reconciling finds nothing where all is well, wherever the cut lies, and any planted difference.

use std::sync::Arc;

use super::{CountingIds, FakeJournal, NOW, Seed, SetClock, event_of, seeds, stream};
use crate::{
    CheckpointView, JournalView, ReconcileLine, ReconcileOptions, ReconcileReport, ShipOptions,
    Shipper, reconcile,
};
use proptest::prelude::*;
use tollgate_model::{
    By, CounterId, CounterKind, CounterScope, CounterState, Period, Sequence, ShardSnapshot, Ticks,
    Timestamp, UsageEvent,
};
use tollgate_store::testing::HOUR_US;
use tollgate_store::{IngestBatch, MemoryStore, UsageStore};

const SHARDS: u64 = 4;

/// The counters that a gateway would have after these events of epoch 2 (and all of epoch 1), with
/// positions that differ from shard to shard.
fn checkpoint_of(journal: &FakeJournal, positions: &[[u64; 2]], in_flight: u64) -> CheckpointView {
    let mut shards: Vec<ShardSnapshot> = (0..SHARDS)
        .map(|n| ShardSnapshot {
            shard: n as u16,
            round: 1,
            at: Ticks(0),
            closed_before: Timestamp(i64::MIN),
            positions: positions[n as usize].map(Sequence).to_vec(),
            lost_at: Ticks(0),
            counters: Vec::new(),
        })
        .collect();
    for (id, entries) in journal.streams.lock().unwrap().iter() {
        for (place, event) in entries.iter().enumerate() {
            for (by, name, start) in event.iter().flat_map(charged) {
                let scope = CounterScope {
                    by,
                    id: &name,
                    route: None,
                };
                let counter = CounterId::quota(scope).in_period(start);
                let shard = &mut shards[(counter.0 % u128::from(SHARDS)) as usize];
                let inside =
                    id.epoch < 2 || (place as u64) < shard.positions[usize::from(id.thread)].0;
                let units = event.as_ref().map_or(0, |event| event.units);
                let state = match shard.counters.iter().position(|s| s.counter == counter) {
                    Some(found) => &mut shard.counters[found],
                    None => {
                        shard.counters.push(state_of(counter));
                        shard.counters.last_mut().unwrap()
                    }
                };
                if inside {
                    state.settled += units;
                }
                state.spent = state.settled + in_flight;
            }
        }
    }
    CheckpointView { epoch: 2, shards }
}

fn state_of(counter: CounterId) -> CounterState {
    CounterState {
        counter,
        kind: CounterKind::Quota { ends_at: NOW },
        began: Ticks(0),
        settled: 0,
        held: 0,
        spent: 0,
        reserved: 0,
        granted: 0,
        slots: Vec::new(),
    }
}

fn charged(event: &UsageEvent) -> Vec<(By, String, Timestamp)> {
    let subscription = event
        .subscription
        .as_ref()
        .zip(event.subscription_period)
        .map(|(id, start)| (By::Subscription, id.to_string(), start));
    let key = event
        .key_family
        .as_ref()
        .zip(event.key_period)
        .map(|(id, start)| (By::Key, id.to_string(), start));
    subscription.into_iter().chain(key).collect()
}

struct World {
    journal: Arc<FakeJournal>,
    store: Arc<dyn UsageStore>,
}

impl World {
    /// Events spread over three streams; the first `shipped` are taken in.
    async fn of(events: &[UsageEvent], shipped: usize) -> Self {
        let journal = Arc::new(FakeJournal::default());
        let store: Arc<dyn UsageStore> = Arc::new(MemoryStore::default());
        let world = Self { journal, store };
        let streams = [stream(1, 0), stream(2, 0), stream(2, 1)];
        for (n, event) in events.iter().enumerate() {
            if n == shipped {
                world.ship().await;
            }
            world
                .journal
                .append(&streams[n % streams.len()], Some(event.clone()));
        }
        world
    }

    async fn ship(&self) {
        let shipper = Shipper::new(
            self.journal.clone(),
            self.store.clone(),
            SetClock::at(NOW),
            Arc::new(CountingIds::default()),
            ShipOptions::default(),
        );
        shipper.flush().await.unwrap();
    }

    async fn report(&self) -> ReconcileReport {
        self.report_of(&ReconcileOptions::default()).await
    }

    async fn report_of(&self, options: &ReconcileOptions) -> ReconcileReport {
        let journal: Arc<dyn JournalView> = self.journal.clone();
        reconcile(&self.store, Some(journal), NOW, options)
            .await
            .unwrap()
    }
}

fn events_of(seeds: &[Seed]) -> Vec<UsageEvent> {
    seeds
        .iter()
        .enumerate()
        .map(|(n, seed)| event_of(n, seed))
        .collect()
}

fn differing(report: &ReconcileReport) -> Vec<&ReconcileLine> {
    report.lines.iter().filter(|line| !line.ok).collect()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn all_is_well_wherever_marks_and_positions_stand(
        seeds in seeds(50 * HOUR_US, 90),
        shipped in 0usize..90,
        positions in prop::collection::vec([0u64..35, 0u64..35], SHARDS as usize),
        in_flight in 0u64..3,
    ) {
        block_on(async {
            let world = World::of(&events_of(&seeds), shipped).await;
            let checkpoint = checkpoint_of(&world.journal, &positions, in_flight);
            *world.journal.checkpoint.lock().unwrap() = Some(checkpoint);
            let report = world.report().await;
            prop_assert!(report.ok, "{:#?}", differing(&report));
            Ok(())
        })?;
    }

    #[test]
    fn a_counter_that_is_one_unit_off_is_named(
        seeds in seeds(50 * HOUR_US, 60),
        shipped in 0usize..60,
        positions in prop::collection::vec([0u64..25, 0u64..25], SHARDS as usize),
        which in any::<prop::sample::Index>(),
    ) {
        block_on(async {
            let world = World::of(&events_of(&seeds), shipped).await;
            let mut checkpoint = checkpoint_of(&world.journal, &positions, 0);
            let all: Vec<&mut CounterState> = checkpoint
                .shards
                .iter_mut()
                .flat_map(|shard| &mut shard.counters)
                .filter(|state| state.settled > 0)
                .collect();
            if all.is_empty() {
                return Ok(());
            }
            let place = which.index(all.len());
            let off = all.into_iter().nth(place).unwrap();
            off.settled -= 1;
            off.spent -= 1;
            *world.journal.checkpoint.lock().unwrap() = Some(checkpoint);
            let report = world.report().await;
            prop_assert!(!report.ok);
            let names: Vec<&str> = differing(&report).iter().map(|l| l.name.as_str()).collect();
            prop_assert_eq!(names.len(), 2, "{:?}", names);
            prop_assert!(names[1].starts_with("quota of "), "{:?}", names);
            prop_assert_eq!(differing(&report)[1].difference, Some(-1));
            Ok(())
        })?;
    }
}

fn some_events(count: i64) -> Vec<UsageEvent> {
    let seeds: Vec<Seed> = (1..=count)
        .map(|n| Seed {
            ago_us: n * 1_000_000,
            who: 1,
            what: 1,
            how: 9,
            latency_us: 1,
            units: 2,
        })
        .collect();
    events_of(&seeds)
}

#[test]
fn an_event_that_the_store_lost_is_a_difference_of_the_journal() {
    block_on(async {
        let world = World::of(&some_events(6), 6).await;
        // The mark moves past three entries without their events.
        let store = &world.store;
        store
            .ingest(IngestBatch {
                stream: stream(2, 0),
                first: Sequence(0),
                next: Sequence(2),
                events: Vec::new(),
                buckets: Vec::new(),
                periods: Vec::new(),
                received_at: NOW,
            })
            .await
            .unwrap();
        world.ship().await;
        let report = world.report().await;
        assert!(!report.ok);
        let lines = differing(&report);
        assert_eq!(lines[0].name, "journal: events forwarded");
        assert_eq!((lines[0].left, lines[0].right), (Some(6), Some(4)));
        assert_eq!(lines[1].name, "journal: units forwarded");
        assert_eq!(lines[1].difference, Some(4));
        assert_eq!(lines.len(), 2);
        let todo = lines[0].todo.as_deref().unwrap();
        assert!(todo.contains("journal verify"), "{todo}");
        assert!(lines[0].means.as_deref().unwrap().contains("no record"));
        let agreeing = report.lines.iter().find(|line| line.ok).unwrap();
        assert_eq!((&agreeing.means, &agreeing.todo), (&None, &None));
    });
}

#[test]
fn a_bucket_that_differs_from_the_records_is_found() {
    block_on(async {
        let world = World::of(&some_events(3), 3).await;
        world.ship().await;
        let id = stream(9, 0);
        let event = some_events(1).remove(0);
        let mut batch = tollgate_store::testing::batch(id, 0, vec![event]);
        // Taken in with one request too many in its buckets.
        for bucket in &mut batch.buckets {
            bucket.counts.requests += 1;
        }
        world
            .journal
            .append(&batch.stream, Some(batch.events[0].event.clone()));
        world.store.ingest(batch).await.unwrap();
        let report = world.report().await;
        let names: Vec<&str> = differing(&report)
            .iter()
            .map(|line| line.name.as_str())
            .collect();
        assert_eq!(
            names,
            ["requests in api buckets", "requests in route buckets"]
        );
        let period = Some(Period {
            start: NOW.floor_to(24 * HOUR_US),
            end: NOW.floor_to(24 * HOUR_US).plus_us(24 * HOUR_US),
        });
        let report = world.report_of(&ReconcileOptions { period }).await;
        let names: Vec<&str> = differing(&report)
            .iter()
            .map(|line| line.name.as_str())
            .collect();
        assert_eq!(names.last(), Some(&"period: requests"));
        // It says which API and hour, how many on each side, and whom it misleads.
        let line = differing(&report).pop().unwrap().clone();
        let event = some_events(1).remove(0);
        let place = format!(
            "; API {}, hour from {}: ",
            event.api,
            event.at.floor_to(HOUR_US)
        );
        assert!(line.in_words.contains(&place), "{}", line.in_words);
        assert_eq!(line.difference, Some(-1));
        assert!(line.means.unwrap().contains("show too much"));
    });
}

#[test]
fn a_counter_that_is_gone_while_its_period_is_live_is_a_difference() {
    block_on(async {
        let world = World::of(&some_events(6), 6).await;
        world.ship().await;
        let report = async |closed_before, position| {
            let mut checkpoint = checkpoint_of(&world.journal, &[[position; 2]; 4], 0);
            for shard in &mut checkpoint.shards {
                shard.counters.clear();
                shard.closed_before = closed_before;
            }
            *world.journal.checkpoint.lock().unwrap() = Some(checkpoint);
            world.report().await
        };
        let hours = |hours: i64| Timestamp(NOW.0 + hours * HOUR_US);
        let found = report(hours(-2), 9).await;
        let lines = differing(&found);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert_eq!(lines[0].name, "quotas: gone");
        assert_eq!((lines[0].left, lines[0].right), (Some(0), Some(12)));
        assert!(lines[0].in_words.contains("subscription sub-1 from "));
        assert!(lines[0].means.as_deref().unwrap().contains("more than"));
        // Its period may be over, or nothing was ever forgotten, or nothing was learned yet.
        assert!(report(hours(0), 9).await.ok);
        assert!(report(Timestamp(i64::MIN), 9).await.ok);
    });
}

#[test]
fn a_period_that_begins_after_the_checkpoint_needs_no_counter_in_it() {
    block_on(async {
        // All in streams of the epoch that wrote the checkpoint.
        let world = World::of(&[], 0).await;
        for event in some_events(3) {
            world.journal.append(&stream(2, 0), Some(event));
        }
        world.ship().await;
        let mut checkpoint = checkpoint_of(&world.journal, &[[0; 2]; 4], 0);
        for shard in &mut checkpoint.shards {
            shard.counters.clear();
            shard.closed_before = Timestamp(NOW.0 - 2 * HOUR_US);
        }
        *world.journal.checkpoint.lock().unwrap() = Some(checkpoint);
        let report = world.report().await;
        assert!(report.ok, "{:#?}", differing(&report));
    });
}

#[test]
fn what_cannot_be_checked_is_said() {
    block_on(async {
        let world = World::of(&some_events(3), 2).await;
        let report = world.report().await;
        assert!(report.ok);
        let quotas = report.lines.last().unwrap();
        assert_eq!((quotas.left, quotas.difference), (None, None));
        assert!(quotas.in_words.contains("checkpoint"));
        let alone = reconcile(&world.store, None, NOW, &ReconcileOptions::default())
            .await
            .unwrap();
        assert!(alone.ok);
        assert!(alone.lines[0].in_words.contains("no journal"));
    });
}
