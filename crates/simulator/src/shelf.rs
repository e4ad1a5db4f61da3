//! The platform's store with faults, and what was really put into it.
//!
//! **Invariant.** What is told as taken in is exactly what the store committed, whether or not the
//! shipper learned of it. A process that the disk knows as killed is not heard any more.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tollgate_journal::testing::FaultyDisk;
use tollgate_model::{NodeId, Timestamp, UsageBucket, UsageEvent};
use tollgate_store::{
    BucketQuery, Entity, HighWaterMark, IngestBatch, LedgerTotals, MemoryStore, Page, PeriodScope,
    PeriodUnits, RecordQuery, StoreError, StoreErrorKind, StoreResult, UsageRecord, UsageStore,
};

/// What happens to the next calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing.
    Fine,
    /// The store cannot be reached.
    Away,
    /// A batch is committed and its answer is lost.
    AnswerLost,
    /// Somebody else seems to have moved the mark.
    Contended,
    /// Batches of more than this many events are refused for good.
    Choosy(usize),
}

/// A store with weather.
pub(crate) struct Shelf {
    inner: MemoryStore,
    disk: FaultyDisk,
    state: Mutex<State>,
}

struct State {
    weather: Weather,
    /// Calls that the weather lasts for.
    left: u32,
    /// The process that speaks, as [`FaultyDisk::lives`] counts them.
    caller: u64,
    taken: Vec<UsageEvent>,
}

impl Shelf {
    /// `disk` knows which process lives.
    pub(crate) fn new(disk: FaultyDisk) -> Self {
        Self {
            inner: MemoryStore::default(),
            disk,
            state: Mutex::new(State {
                weather: Weather::Fine,
                left: 0,
                caller: 0,
                taken: Vec::new(),
            }),
        }
    }

    pub(crate) fn set_weather(&self, weather: Weather, calls: u32) {
        let mut state = self.state.lock();
        state.weather = weather;
        state.left = calls;
    }

    /// From now on this process speaks.
    pub(crate) fn set_caller(&self, life: u64) {
        self.state.lock().caller = life;
    }

    /// What was committed since the last call, in order.
    pub(crate) fn take_taken(&self) -> Vec<UsageEvent> {
        std::mem::take(&mut self.state.lock().taken)
    }

    fn weather(&self) -> Weather {
        let mut state = self.state.lock();
        if state.caller != self.disk.lives() {
            return Weather::Away;
        }
        match state.left.checked_sub(1) {
            Some(left) => {
                state.left = left;
                state.weather
            }
            None => Weather::Fine,
        }
    }

    fn reachable(&self) -> StoreResult<()> {
        match self.weather() {
            Weather::Away => Err(failure(StoreErrorKind::Unavailable)),
            _ => Ok(()),
        }
    }
}

fn failure(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, Entity::Usage)
}

#[async_trait]
impl UsageStore for Shelf {
    async fn ingest_some(&self, batches: Vec<Arc<IngestBatch>>) -> StoreResult<usize> {
        let weather = self.weather();
        let offered: usize = batches.iter().map(|batch| batch.events.len()).sum();
        match weather {
            Weather::Away => return Err(failure(StoreErrorKind::Unavailable)),
            Weather::Contended => return Err(failure(StoreErrorKind::Conflict)),
            Weather::Choosy(most) if offered > most => {
                return Err(failure(StoreErrorKind::Unstorable));
            }
            Weather::Fine | Weather::AnswerLost | Weather::Choosy(_) => {}
        }
        let taken = self.inner.ingest_some(batches.clone()).await?;
        let events = batches.iter().take(taken).flat_map(|batch| &batch.events);
        let events: Vec<UsageEvent> = events.map(|e| e.event.clone()).collect();
        self.state.lock().taken.extend(events);
        match weather {
            Weather::AnswerLost => Err(failure(StoreErrorKind::Unavailable)),
            _ => Ok(taken),
        }
    }

    async fn high_water_marks(&self, node: &NodeId) -> StoreResult<Vec<HighWaterMark>> {
        self.reachable()?;
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
        self.reachable()?;
        self.inner.list_period_units(from).await
    }

    async fn total_units(&self, scope: &PeriodScope) -> StoreResult<u64> {
        self.inner.total_units(scope).await
    }

    async fn ledger_totals(&self) -> StoreResult<(LedgerTotals, Vec<HighWaterMark>)> {
        self.inner.ledger_totals().await
    }

    async fn drop_minute_buckets(&self, before: Timestamp) -> StoreResult<u64> {
        self.reachable()?;
        self.inner.drop_minute_buckets(before).await
    }
}
