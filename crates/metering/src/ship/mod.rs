//! From the local journal to the store, in order, counted once.
//!
//! **How.** The store's high-water mark of a stream is the truth. A batch begins at it, and the
//! store moves it in the batch's own transaction: a batch whose answer was lost is refused with
//! `Conflict` when it is sent again, the mark is read anew, and shipping goes on behind it. Old
//! epochs are drained before the present one, whose streams take turns batch by batch. The store is
//! offered several batches at once and takes in as many as suit it; while it does, those behind
//! them are read and folded. Nothing more is in flight.
//!
//! **When.** The journal's notice wakes the loop; a short linger lets a few more events join the
//! batch; a fallback wakes it even without notice.
//!
//! **What can go wrong.** The store is away: wait, longer each time, with jitter, forever, as the
//! journal keeps everything. The store refuses one event for good: the batch is halved until that
//! event stands alone, the mark is moved past it, it is counted and told (`quarantined`), and those
//! behind it go on; more than 16 in a row are taken for a broken store instead.
//! The journal has damaged entries or none where the mark stands: what is readable goes on, the
//! rest is counted (`unreadable`).
//!
//! Nothing here needs to be kept over a restart.

mod lag;
mod pass;

pub use lag::ShipLag;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tollgate_model::{Clock, IdGen, Sequence, StreamId, Timestamp};
use tollgate_store::UsageStore;

use crate::{BatchSource, Ingest, Lag, MeteringError, MeteringResult, StreamEnd};

/// How to ship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShipOptions {
    /// Most events of a batch.
    pub batch_events_max: usize,
    /// Most journal bytes of a batch.
    pub batch_bytes_max: usize,
    /// Most batches that the store is offered at once; as many are read ahead.
    pub batches_at_once_max: usize,
    /// How long to let events gather after the journal's notice, in microseconds.
    pub linger_us: u64,
    /// How long to sleep at most without notice, in microseconds.
    pub idle_us: u64,
    /// First wait after a failure, in microseconds; doubled with each further one.
    pub backoff_min_us: u64,
    /// Longest wait after a failure, in microseconds.
    pub backoff_max_us: u64,
    /// Longest `flush`, in microseconds.
    pub flush_timeout_us: u64,
}

impl Default for ShipOptions {
    fn default() -> Self {
        Self {
            batch_events_max: 1_000,
            batch_bytes_max: 4 << 20,
            batches_at_once_max: 10,
            linger_us: 20_000,
            idle_us: 150_000,
            backoff_min_us: 50_000,
            backoff_max_us: 5_000_000,
            flush_timeout_us: 10_000_000,
        }
    }
}

/// How shipping is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShipStatus {
    /// Entries that wait, as of the last pass.
    pub waiting: u64,
    /// Events taken in by this process.
    pub shipped: u64,
    /// Batches taken in by this process.
    pub batches: u64,
    /// Batches of this process that the store had taken in before.
    pub conflicts: u64,
    /// Passes of this process that failed.
    pub failures: u64,
    /// Events that the store refused for good; they are in no record.
    pub quarantined: u64,
    /// Journal entries that could not be read.
    pub unreadable: u64,
    /// All that the journal held at this moment has been taken in.
    pub caught_up_at: Option<Timestamp>,
    /// What failed last, while shipping is failing.
    pub failing: Option<String>,
}

/// Ships one gateway's journal. Share it behind an `Arc`: [`Shipper::run`] once, [`Shipper::flush`]
/// from anywhere.
pub struct Shipper {
    source: Arc<dyn BatchSource>,
    store: Arc<dyn UsageStore>,
    ingest: Arc<Ingest>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    options: ShipOptions,
    /// Held over a whole pass: one run of batches is in flight.
    marks: tokio::sync::Mutex<Option<Marks>>,
    progress: Mutex<Progress>,
    /// Events refused since the last one that went through.
    refused_in_row: AtomicU32,
}

type Marks = BTreeMap<StreamId, Sequence>;

/// What is told about shipping, also while a pass is under way.
#[derive(Default)]
struct Progress {
    status: ShipStatus,
    marks: Marks,
    /// Where the journal ended at some moment, until all of that has been taken in. Not its end at
    /// the last pass: what was appended just now is not on disk yet, and never quite reached.
    awaited: Option<(Timestamp, Vec<StreamEnd>)>,
}

impl Progress {
    fn await_ends(&mut self, now: Timestamp, ends: &[StreamEnd]) {
        self.awaited.get_or_insert_with(|| (now, ends.to_vec()));
    }

    fn note_caught_up(&mut self) {
        let marks = &self.marks;
        let reached =
            |end: &StreamEnd| marks.get(&end.stream).copied().unwrap_or_default() >= end.end;
        if let Some((at, _)) = self.awaited.take_if(|(_, ends)| ends.iter().all(reached)) {
            self.status.caught_up_at = Some(at);
        }
    }
}

/// What comes after a pass.
enum Wait {
    Notice,
    Backoff,
}

impl Shipper {
    /// From a journal to a store.
    #[must_use]
    pub fn new(
        source: Arc<dyn BatchSource>,
        store: Arc<dyn UsageStore>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGen>,
        options: ShipOptions,
    ) -> Self {
        Self {
            ingest: Arc::new(Ingest::new(clock.clone())),
            source,
            store,
            clock,
            ids,
            options,
            marks: tokio::sync::Mutex::default(),
            progress: Mutex::default(),
            refused_in_row: AtomicU32::new(0),
        }
    }

    /// How shipping is doing.
    #[must_use]
    pub fn status(&self) -> ShipStatus {
        self.status_mut(|status| status.clone())
    }

    fn status_mut<T>(&self, act: impl FnOnce(&mut ShipStatus) -> T) -> T {
        self.progress_mut(|progress| act(&mut progress.status))
    }

    fn progress_mut<T>(&self, act: impl FnOnce(&mut Progress) -> T) -> T {
        act(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ships until `stop` resolves. What waits then is left to [`Shipper::flush`].
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut failures = 0u32;
        loop {
            let pass = async {
                match self.pass().await {
                    Ok(()) => Wait::Notice,
                    Err(error) => {
                        tracing::warn!(%error, failures, "shipping failed; the journal keeps it");
                        Wait::Backoff
                    }
                }
            };
            let wait = tokio::select! {
                () = &mut stop => return,
                wait = pass => wait,
            };
            let rest = async {
                match wait {
                    Wait::Notice => {
                        failures = 0;
                        let idle = Duration::from_micros(self.options.idle_us);
                        // Woken or not, the next pass looks.
                        if tokio::time::timeout(idle, self.source.changed())
                            .await
                            .is_ok()
                        {
                            sleep_us(self.options.linger_us).await;
                        }
                    }
                    Wait::Backoff => {
                        sleep_us(self.backoff_us(failures)).await;
                        failures = failures.saturating_add(1);
                    }
                }
            };
            tokio::select! {
                () = &mut stop => return,
                () = rest => {}
            }
        }
    }

    /// Returns when everything that was appended before the call is visible.
    ///
    /// # Errors
    /// `Lagging` with what lags after [`ShipOptions::flush_timeout_us`].
    pub async fn flush(&self) -> MeteringResult<()> {
        let wanted = self.ends().await?;
        let mut cause = None;
        let timeout = Duration::from_micros(self.options.flush_timeout_us);
        let reached = tokio::time::timeout(timeout, self.flush_to(&wanted, &mut cause)).await;
        if reached.is_ok() {
            return Ok(());
        }
        let known = self.progress_mut(|progress| progress.marks.clone());
        let mut streams = Vec::new();
        for StreamEnd { stream, end } in wanted {
            let mark = known.get(&stream).copied().unwrap_or_default();
            if mark < end {
                streams.push(Lag {
                    stream,
                    mark,
                    wanted: end,
                });
            }
        }
        Err(MeteringError::Lagging { streams, cause })
    }

    async fn flush_to(&self, wanted: &[StreamEnd], cause: &mut Option<String>) {
        let mut failures = 0;
        loop {
            if let Err(error) = self.pass().await {
                *cause = Some(error.to_string());
            } else if self.has_reached(wanted).await {
                return;
            }
            sleep_us(self.backoff_us(failures)).await;
            failures += 1;
        }
    }

    async fn has_reached(&self, wanted: &[StreamEnd]) -> bool {
        let marks = self.marks.lock().await;
        wanted.iter().all(|StreamEnd { stream, end }| {
            marks
                .as_ref()
                .and_then(|marks| marks.get(stream))
                .copied()
                .unwrap_or_default()
                >= *end
        })
    }

    /// How long to wait after so many failures: doubled each time up to a bound, then drawn from
    /// its upper half, so that gateways that failed together do not come back together.
    fn backoff_us(&self, failures: u32) -> u64 {
        let doubled = self
            .options
            .backoff_min_us
            .saturating_mul(1 << failures.min(20));
        let most = doubled.min(self.options.backoff_max_us).max(2);
        let mut drawn = [0; 8];
        self.ids.fill(&mut drawn);
        most / 2 + u64::from_le_bytes(drawn) % (most / 2)
    }
}

async fn sleep_us(us: u64) {
    tokio::time::sleep(Duration::from_micros(us)).await;
}
