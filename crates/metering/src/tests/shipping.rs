//! From journal to store: in order, counted once, whatever fails on the way.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{CountingIds, FakeJournal, NOW, SetClock, node, stream};
use crate::{MeteringError, ShipOptions, Shipper};
use async_trait::async_trait;
use tollgate_model::{EventId, NodeId, RequestId, Sequence, StreamId, Timestamp, UsageBucket};
use tollgate_model::{Family, Grain, Outcome, UsageEvent};
use tollgate_store::{
    BucketQuery, Entity, HighWaterMark, IngestBatch, LedgerTotals, MemoryStore, Page, PeriodScope,
    PeriodUnits, RecordOrder, RecordQuery, StoreError, StoreErrorKind, StoreResult, UsageRecord,
    UsageStore, testing,
};

/// What goes wrong with the next batch.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// It is not taken in.
    Before(StoreErrorKind),
    /// It is taken in, the answer is lost.
    After,
}

/// A store that fails as told.
#[derive(Default)]
struct FaultyStore {
    inner: MemoryStore,
    faults: Mutex<VecDeque<Fault>>,
    /// Paths of events that are refused for good.
    poison: Mutex<Vec<&'static str>>,
    away: std::sync::atomic::AtomicBool,
    batches: AtomicU32,
}

#[async_trait]
impl UsageStore for FaultyStore {
    async fn ingest_some(&self, batches: Vec<Arc<IngestBatch>>) -> StoreResult<usize> {
        // Takes in two at once at most, so that what was read ahead is offered again.
        let some: Vec<Arc<IngestBatch>> = batches.into_iter().take(2).collect();
        self.batches.fetch_add(1, Ordering::Relaxed);
        let failed = |kind| Err(StoreError::new(kind, Entity::Usage));
        if self.away.load(Ordering::Relaxed) {
            return failed(StoreErrorKind::Unavailable);
        }
        let poisoned = {
            let poison = self.poison.lock().unwrap();
            let bad = |path: &str| poison.contains(&path);
            let mut events = some.iter().flat_map(|batch| &batch.events);
            events.any(|taken| bad(&taken.event.path))
        };
        if poisoned {
            return failed(StoreErrorKind::Unstorable);
        }
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            Some(Fault::Before(kind)) => failed(kind),
            Some(Fault::After) => {
                self.inner.ingest_some(some).await?;
                failed(StoreErrorKind::Unavailable)
            }
            None => self.inner.ingest_some(some).await,
        }
    }

    async fn high_water_marks(&self, node: &NodeId) -> StoreResult<Vec<HighWaterMark>> {
        self.inner.high_water_marks(node).await
    }

    async fn all_high_water_marks(&self) -> StoreResult<Vec<HighWaterMark>> {
        self.inner.all_high_water_marks().await
    }

    async fn list_buckets(&self, query: &BucketQuery) -> StoreResult<Vec<UsageBucket>> {
        self.inner.list_buckets(query).await
    }

    async fn list_records(&self, query: &RecordQuery) -> StoreResult<Page<UsageRecord>> {
        self.inner.list_records(query).await
    }

    async fn period_units(&self, scope: &PeriodScope, start: Timestamp) -> StoreResult<u64> {
        self.inner.period_units(scope, start).await
    }

    async fn list_period_units(&self, from: Timestamp) -> StoreResult<Vec<PeriodUnits>> {
        self.inner.list_period_units(from).await
    }

    async fn total_units(&self, scope: &PeriodScope) -> StoreResult<u64> {
        self.inner.total_units(scope).await
    }

    async fn ledger_totals(&self) -> StoreResult<(LedgerTotals, Vec<HighWaterMark>)> {
        self.inner.ledger_totals().await
    }

    async fn drop_minute_buckets(&self, before: Timestamp) -> StoreResult<u64> {
        self.inner.drop_minute_buckets(before).await
    }
}

struct World {
    journal: Arc<FakeJournal>,
    store: Arc<FaultyStore>,
    shipper: Arc<Shipper>,
    made: AtomicU32,
}

impl World {
    fn new() -> Self {
        Self::with(ShipOptions {
            batch_events_max: 8,
            flush_timeout_us: 300_000,
            backoff_min_us: 1_000,
            backoff_max_us: 10_000,
            ..ShipOptions::default()
        })
    }

    fn with(options: ShipOptions) -> Self {
        let journal = Arc::new(FakeJournal::default());
        let store = Arc::new(FaultyStore::default());
        Self {
            shipper: Arc::new(Shipper::new(
                journal.clone(),
                store.clone(),
                SetClock::at(NOW),
                Arc::new(CountingIds::default()),
                options,
            )),
            journal,
            store,
            made: AtomicU32::new(0),
        }
    }

    fn event(&self, path: &str) -> UsageEvent {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        UsageEvent {
            id: EventId::Request(RequestId::from_uuid(u128::from(n))),
            path: Arc::from(path),
            ..testing::event(n)
        }
    }

    fn append(&self, stream: &StreamId, paths: &[&str]) {
        for path in paths {
            self.journal.append(stream, Some(self.event(path)));
        }
    }

    async fn paths(&self) -> Vec<String> {
        let mut query = RecordQuery::in_span(Timestamp(i64::MIN), Timestamp(i64::MAX));
        query.limit = 10_000;
        query.order = RecordOrder::OldestFirst;
        let page = self.store.list_records(&query).await.unwrap();
        page.items
            .iter()
            .map(|record| record.event.path.to_string())
            .collect()
    }

    async fn mark(&self, stream: &StreamId) -> Sequence {
        let marks = self.store.high_water_marks(&node()).await.unwrap();
        marks
            .into_iter()
            .find(|mark| mark.stream == *stream)
            .map_or(Sequence(0), |mark| mark.next)
    }
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("/{n:03}")).collect()
}

#[tokio::test]
async fn after_a_flush_everything_appended_before_it_is_there_once() {
    let world = World::new();
    let paths = numbered(50);
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    for (n, path) in paths.iter().enumerate() {
        world.append(&stream(1, n as u16 % 3), &[path]);
        if n % 5 == 0 {
            // A grant: an entry that is no event.
            world.journal.append(&stream(1, 0), None);
        }
    }
    world.shipper.flush().await.unwrap();
    assert_eq!(world.paths().await, paths);
    world.shipper.flush().await.unwrap();
    assert_eq!(world.paths().await.len(), 50);
    let status = world.shipper.status();
    assert_eq!((status.shipped, status.waiting), (50, 0));
}

#[tokio::test]
async fn old_epochs_go_before_the_present_one() {
    let world = World::new();
    world.append(&stream(3, 0), &["/new"]);
    world.append(&stream(1, 1), &["/old"]);
    // The first batch comes through, then the store goes away.
    let goes_away = [Fault::After, Fault::Before(StoreErrorKind::Unavailable)];
    world.store.faults.lock().unwrap().extend(goes_away);
    assert!(world.shipper.pass().await.is_err());
    assert_eq!(world.paths().await, ["/old"]);
    world.shipper.flush().await.unwrap();
    assert_eq!(world.paths().await, ["/new", "/old"]);
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_counted_once() {
    let world = World::new();
    world.append(&stream(1, 0), &["/a", "/b"]);
    world.store.faults.lock().unwrap().push_back(Fault::After);
    world.shipper.flush().await.unwrap();
    assert_eq!(world.paths().await, ["/a", "/b"]);
    assert_eq!(world.mark(&stream(1, 0)).await, Sequence(2));
}

#[tokio::test]
async fn ten_answers_lost_in_a_row_change_no_record_bucket_or_sum() {
    let world = World::new();
    let paths = numbered(300);
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    for (thread, paths) in (0..).zip(paths.chunks(100)) {
        world.append(&stream(1, thread), paths);
    }
    world
        .store
        .faults
        .lock()
        .unwrap()
        .extend([Fault::After; 10]);
    world.shipper.flush().await.unwrap();
    assert_eq!(world.paths().await, paths);
    let (sums, marks) = world.store.ledger_totals().await.unwrap();
    let totals: u64 = marks.iter().flat_map(|mark| mark.totals.events).sum();
    let requests = [
        sums.record_requests,
        sums.bucket_requests,
        sums.route_bucket_requests,
        totals,
    ];
    assert_eq!(requests, [300; 4]);
    let fresh = World::new();
    for (stream, entries) in &*world.journal.streams.lock().unwrap() {
        let mut streams = fresh.journal.streams.lock().unwrap();
        streams.insert(stream.clone(), entries.clone());
    }
    fresh.shipper.flush().await.unwrap();
    assert_eq!(api_hours(&fresh).await, api_hours(&world).await);
}

async fn api_hours(world: &World) -> Vec<UsageBucket> {
    let query = BucketQuery {
        family: Family::Api,
        grain: Grain::Hour,
        from: Timestamp(0),
        to: Timestamp(i64::MAX),
        api: None,
        organization: None,
        subscription: None,
        plan: None,
        dimension: None,
        include_test: true,
        merge_starts: false,
    };
    world.store.list_buckets(&query).await.unwrap()
}

#[tokio::test]
async fn somebody_elses_progress_is_found_at_the_mark() {
    let world = World::new();
    let id = stream(1, 0);
    world.append(&id, &["/a", "/b"]);
    world.shipper.flush().await.unwrap();
    world.append(&id, &["/c", "/d"]);
    // Another shipper takes "/c" in behind this one's back.
    let other = Shipper::new(
        world.journal.clone(),
        world.store.clone(),
        SetClock::at(NOW),
        Arc::new(CountingIds::default()),
        ShipOptions::default(),
    );
    other.flush().await.unwrap();
    world.append(&id, &["/e"]);
    world.shipper.flush().await.unwrap();
    assert_eq!(world.paths().await, ["/a", "/b", "/c", "/d", "/e"]);
}

#[tokio::test]
async fn a_poisoned_event_is_counted_and_those_behind_it_go_on() {
    let world = World::new();
    let paths = numbered(40);
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    world.append(&stream(1, 0), &paths);
    world.store.poison.lock().unwrap().extend(["/007", "/023"]);
    world.shipper.flush().await.unwrap();
    let found = world.paths().await;
    assert_eq!(found.len(), 38);
    assert!(!found.iter().any(|path| path == "/007" || path == "/023"));
    assert_eq!(world.shipper.status().quarantined, 2);
    assert_eq!(world.mark(&stream(1, 0)).await, Sequence(40));
}

#[tokio::test]
async fn a_store_that_refuses_everything_quarantines_little_and_keeps_the_rest_waiting() {
    let world = World::new();
    let paths = numbered(60);
    let paths: Vec<&'static str> = paths.iter().map(|p| &*p.clone().leak()).collect();
    world.append(&stream(1, 0), &paths);
    world.store.poison.lock().unwrap().extend(&paths);
    assert!(world.shipper.flush().await.is_err());
    let status = world.shipper.status();
    assert!(status.quarantined <= 16, "{}", status.quarantined);
    assert!(status.failing.is_some());
}

#[tokio::test]
async fn a_flush_that_cannot_finish_names_what_lags() {
    let world = World::new();
    world.append(&stream(1, 0), &["/a"]);
    world.append(&stream(1, 1), &["/b"]);
    world.shipper.flush().await.unwrap();
    world.append(&stream(1, 1), &["/c"]);
    world.store.away.store(true, Ordering::Relaxed);
    let Err(MeteringError::Lagging { streams, cause }) = world.shipper.flush().await else {
        panic!("the store is away");
    };
    assert_eq!(streams.len(), 1);
    assert_eq!(streams[0].stream, stream(1, 1));
    assert_eq!(
        (streams[0].mark, streams[0].wanted),
        (Sequence(1), Sequence(2))
    );
    assert!(cause.unwrap().contains("Unavailable"));
    world.store.away.store(false, Ordering::Relaxed);
    world.shipper.flush().await.unwrap();
    assert_eq!(world.paths().await.len(), 3);
}

#[tokio::test]
async fn a_stream_that_cannot_be_read_does_not_hold_up_the_others() {
    let world = World::new();
    world.append(&stream(1, 0), &["/a"]);
    world.append(&stream(1, 1), &["/b"]);
    *world.journal.broken.lock().unwrap() = Some(stream(1, 0));
    let refused = world.shipper.flush().await;
    assert!(matches!(refused, Err(MeteringError::Lagging { .. })));
    assert_eq!(world.paths().await, ["/b"]);
}

#[tokio::test]
async fn the_journal_is_told_what_was_shipped_also_after_a_restart() {
    let world = World::new();
    world.append(&stream(1, 0), &["/a", "/b"]);
    world.shipper.flush().await.unwrap();
    let told = |journal: &FakeJournal| journal.shipped.lock().unwrap().get(&stream(1, 0)).copied();
    assert_eq!(told(&world.journal), Some(Sequence(2)));
    world.journal.shipped.lock().unwrap().clear();
    let restarted = Shipper::new(
        world.journal.clone(),
        world.store.clone(),
        SetClock::at(NOW),
        Arc::new(CountingIds::default()),
        ShipOptions::default(),
    );
    restarted.flush().await.unwrap();
    assert_eq!(told(&world.journal), Some(Sequence(2)));
}

#[tokio::test]
async fn the_loop_ships_what_is_appended_while_it_sleeps_and_outlasts_failures() {
    let world = World::with(ShipOptions {
        // Without the journal's notice nothing would move within this test.
        idle_us: 3_600_000_000,
        linger_us: 1_000,
        backoff_min_us: 1_000,
        backoff_max_us: 2_000,
        ..ShipOptions::default()
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = world.shipper.run(async {
        drop(stopped.await);
    });
    let driving = async {
        for round in 0..5 {
            world
                .store
                .faults
                .lock()
                .unwrap()
                .extend([Fault::Before(StoreErrorKind::Unavailable), Fault::After]);
            world.append(&stream(1, 0), &["/x"]);
            while world.paths().await.len() <= round {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        drop(stop);
    };
    let both = async { tokio::join!(running, driving) };
    tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .unwrap();
    assert_eq!(world.paths().await.len(), 5);
}

#[tokio::test]
async fn totals_beside_the_mark_are_those_of_the_events() {
    let world = World::new();
    let mut denied = world.event("/no");
    denied.outcome = Outcome::Denied;
    denied.units = 0;
    world.append(&stream(1, 0), &["/a", "/b", "/c"]);
    world.journal.append(&stream(1, 0), Some(denied));
    world.shipper.flush().await.unwrap();
    let marks = world.store.high_water_marks(&node()).await.unwrap();
    assert_eq!(marks[0].totals.events.iter().sum::<u64>(), 4);
    assert_eq!(marks[0].totals.events[0], 3);
    assert_eq!(marks[0].totals.units[0], 3);
}

#[tokio::test]
async fn a_damaged_store_costs_no_event_and_is_told() {
    let world = World::new();
    world.append(&stream(1, 0), &["/a", "/b"]);
    let damaged = || Fault::Before(StoreErrorKind::Corrupt);
    let faults = std::iter::repeat_with(damaged).take(500);
    world.store.faults.lock().unwrap().extend(faults);
    assert!(world.shipper.flush().await.is_err());
    let status = world.shipper.status();
    assert_eq!(status.quarantined, 0);
    assert!(status.failing.is_some());
    world.store.faults.lock().unwrap().clear();
    world.shipper.flush().await.unwrap();
    assert_eq!(world.paths().await, ["/a", "/b"]);
}
