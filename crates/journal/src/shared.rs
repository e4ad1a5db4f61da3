//! What an open journal's writers, readers and sync thread have in common.
//!
//! Locks are taken in this order and never the other way round: `checkpoints`, `round`, a live
//! stream's inner lock, `ledger`, `streams`, a stream's segment list.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tollgate_model::{Clock, NodeId, StreamId, Ticks};

use crate::checkpoint::{Cover, OpenProgress};
use crate::damage::DamageBook;
use crate::fs::{Filesystem, LockGuard};
use crate::live::LiveStream;
use crate::options::JournalOptions;
use crate::retention::LedgerKeeper;
use crate::stream::Stream;
use crate::twin::Twin;

pub(crate) struct Shared {
    pub fs: Arc<dyn Filesystem>,
    pub options: JournalOptions,
    pub clock: Arc<dyn Clock>,
    pub node: NodeId,
    pub epoch: u64,
    pub boot_id: String,
    pub live: Vec<Arc<LiveStream>>,
    pub streams: RwLock<BTreeMap<StreamId, Arc<Stream>>>,
    pub disk: DiskBudget,
    pub ledger: Mutex<LedgerKeeper>,
    pub state: Mutex<Twin>,
    pub checkpoints: Mutex<Twin>,
    /// What the checkpoints on disk cover; at most two.
    pub covers: RwLock<Vec<Cover>>,
    pub unfinished: OpenProgress,
    pub damage: DamageBook,
    /// Segments that nobody needs and that could not be removed yet, with their bytes. Its lock is
    /// taken last of all.
    pub doomed: Mutex<Vec<(PathBuf, u64)>>,
    /// Where a span that a power cut may have taken begins, until it is surely told.
    pub untold: Mutex<Untold>,
    /// One sync at a time.
    pub round: Mutex<()>,
    pub signal: Signal,
    /// Raised when entries were written; readers wait on it.
    pub progress: watch::Sender<u64>,
    /// Everything appended before this tick is on disk.
    pub synced_at: AtomicU64,
    pub lock: Mutex<Option<Box<dyn LockGuard>>>,
}

/// A lock whose holder panicked is still good: every critical section leaves whole values.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a start found and no checkpoint tells of yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Untold {
    /// A span that a power cut may have taken begins here, in ticks.
    pub lost_from: Option<u64>,
    /// Not everything of the past is known.
    pub past_lost: bool,
}

impl Shared {
    pub(crate) fn synced_at(&self) -> Ticks {
        Ticks(self.synced_at.load(Ordering::Relaxed))
    }

    pub(crate) fn find_stream(&self, id: &StreamId) -> Option<Arc<Stream>> {
        self.streams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    pub(crate) fn all_streams(&self) -> Vec<Arc<Stream>> {
        self.streams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

/// Bytes that the journal may take on disk.
#[derive(Debug)]
pub(crate) struct DiskBudget {
    bytes_max: u64,
    segments: AtomicU64,
    checkpoints: AtomicU64,
}

impl DiskBudget {
    pub(crate) fn new(bytes_max: u64, segments: u64, checkpoints: u64) -> Self {
        Self {
            bytes_max,
            segments: AtomicU64::new(segments),
            checkpoints: AtomicU64::new(checkpoints),
        }
    }

    /// Takes `bytes`, at most `beyond` above the bound.
    pub(crate) fn take(&self, bytes: u64, beyond: u64) -> bool {
        let most = self.bytes_max.saturating_add(beyond);
        let room = |used: u64| {
            let sum = used.checked_add(bytes)?;
            let all = sum.checked_add(self.checkpoints.load(Ordering::Relaxed))?;
            (all <= most).then_some(sum)
        };
        self.segments
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .is_ok()
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.segments.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_checkpoints(&self, bytes: u64) {
        self.checkpoints.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> u64 {
        self.segments.load(Ordering::Relaxed) + self.checkpoints.load(Ordering::Relaxed)
    }
}

/// How others speak to the sync thread.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    wishes: Mutex<Wishes>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wishes {
    sync: bool,
    stop: bool,
}

impl Signal {
    pub(crate) fn want_sync(&self) {
        let mut wishes = lock(&self.wishes);
        if !wishes.sync {
            wishes.sync = true;
            self.changed.notify_all();
        }
    }

    pub(crate) fn stop(&self) {
        lock(&self.wishes).stop = true;
        self.changed.notify_all();
    }

    /// Waits for a wish, at most so long; `false` once it is time to stop.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        let wishes = lock(&self.wishes);
        let idle = |wishes: &mut Wishes| !wishes.sync && !wishes.stop;
        let (mut wishes, _) = self
            .changed
            .wait_timeout_while(wishes, at_most, idle)
            .unwrap_or_else(PoisonError::into_inner);
        wishes.sync = false;
        !wishes.stop
    }
}

/// A map with a count beside it, so that looking into an empty one takes no lock.
#[derive(Debug, Default)]
pub(crate) struct RareMap<V> {
    count: AtomicUsize,
    map: Mutex<HashMap<Box<str>, V>>,
}

impl<V: Clone> RareMap<V> {
    pub(crate) fn insert(&self, key: &str, value: V) {
        let mut map = lock(&self.map);
        map.insert(key.into(), value);
        self.count.store(map.len(), Ordering::Release);
    }

    pub(crate) fn remove(&self, key: &str) {
        if self.count.load(Ordering::Acquire) > 0 {
            let mut map = lock(&self.map);
            map.remove(key);
            self.count.store(map.len(), Ordering::Release);
        }
    }

    pub(crate) fn values(&self) -> Vec<V> {
        lock(&self.map).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_ends_one_wait_and_without_one_it_lasts_its_time() {
        let signal = Signal::default();
        let wait = |at_most: Duration| {
            #[expect(
                clippy::disallowed_methods,
                reason = "a condition variable waits in real time"
            )]
            let began = std::time::Instant::now();
            (signal.wait(at_most), began.elapsed())
        };
        let (short, long) = (Duration::from_millis(30), Duration::from_secs(20));
        let (goes_on, waited) = wait(short);
        assert!(goes_on && waited >= short, "{waited:?}");
        signal.want_sync();
        let (goes_on, waited) = wait(long);
        assert!(goes_on && waited < long, "{waited:?}");
        let (goes_on, waited) = wait(short);
        assert!(
            goes_on && waited >= short,
            "the wish is used up: {waited:?}"
        );
        signal.stop();
        let (goes_on, waited) = wait(long);
        assert!(!goes_on && waited < long, "{waited:?}");
    }

    #[test]
    fn a_rare_map_forgets_what_is_removed_and_keeps_the_rest() {
        let map = RareMap::default();
        map.remove("none");
        map.insert("a", 1);
        map.insert("b", 2);
        map.remove("a");
        assert_eq!(map.values(), [2]);
        map.remove("b");
        assert!(map.values().is_empty());
    }
}
