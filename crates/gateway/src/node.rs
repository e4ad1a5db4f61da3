//! What all threads of a gateway share: counters, keys, the catalog, figures, and the few numbers
//! that are counted per node.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tollgate_counters::MemoryCounters;
use tollgate_journal::SyncMode;
use tollgate_model::{
    ApiId, Catalog, Clock, DenialCode, IdGen, KeyId, Pepper, Sequence, Ticks, Timestamp,
};

use crate::address::network_of;
use crate::checkpoint::Orders;
use crate::keys::KeyTable;
use crate::lost::LostCounters;
use crate::metrics::Metrics;
use crate::options::{
    ME_ADDRESSES_MAX, ME_CALLS_PER_SECOND, Options, UNKNOWN_KEY_RECORDS_PER_SECOND,
};
use crate::payers::Payers;
use crate::periods::PeriodClock;
use crate::routes::RouteTable;

/// A catalog, ready to decide by.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) routes: RouteTable,
    pub(crate) payers: Payers,
    /// The number in force, raised by keys too.
    version: AtomicU64,
}

impl Compiled {
    pub(crate) fn new(catalog: Arc<Catalog>, metrics: &Metrics) -> Self {
        Self {
            routes: RouteTable::compile(&catalog, metrics),
            payers: Payers::of(&catalog),
            version: AtomicU64::new(catalog.version),
            catalog,
        }
    }

    /// The catalog number in force.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Keys of this number have been changed.
    pub(crate) fn raise(&self, version: u64) {
        self.version.fetch_max(version, Ordering::Relaxed);
    }
}

/// How a gateway stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Listening, not yet accepting.
    Starting,
    /// Serving.
    Open,
    /// No new connections; what is in flight may finish.
    Draining,
    /// What is still in flight is cut.
    Cutting,
}

/// How other threads speak to a gateway thread.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    /// Something is here, or the stage or the catalog has changed.
    pub(crate) notify: Notify,
    /// Keys whose exchanges are to be cut. No longer than there are keys.
    ended: Mutex<Vec<KeyId>>,
}

impl Mailbox {
    pub(crate) fn take_ended(&self) -> Vec<KeyId> {
        std::mem::take(&mut *self.ended.lock())
    }
}

/// Calls of one kind in the current second.
#[derive(Debug, Default)]
struct SecondCount {
    second: u64,
    by_address: HashMap<IpAddr, u32>,
}

/// Shared by all threads of a gateway.
pub(crate) struct Node {
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdGen>,
    pub(crate) pepper: Pepper,
    pub(crate) catalog: ArcSwap<Compiled>,
    publishing: Mutex<()>,
    pub(crate) keys: KeyTable,
    pub(crate) counters: MemoryCounters,
    pub(crate) metrics: Metrics,
    pub(crate) sync: SyncMode,
    pub(crate) mailboxes: Vec<Mailbox>,
    /// By thread, the first sequence of its journal that has not been claimed.
    pub(crate) positions: Vec<AtomicU64>,
    pub(crate) periods: PeriodClock,
    stage: AtomicUsize,
    /// Threads that have not ended.
    threads_running: AtomicUsize,
    /// Counters of which not everything is known.
    pub(crate) lost: LostCounters,
    /// Catalogs published so far, and by thread, how many of them it decides by at least.
    published: AtomicU64,
    turned: Vec<AtomicU64>,
    /// What the checkpoint thread is asked for.
    pub(crate) orders: Orders,
    /// Open connections, by thread.
    pub(crate) connections: Vec<AtomicUsize>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    /// The second and how many unidentified refusals were recorded in it.
    unidentified: Mutex<(u64, u32)>,
    summaries: Mutex<BTreeMap<(ApiId, DenialCode), u32>>,
    me_calls: Mutex<SecondCount>,
}

/// What a node begins with.
pub(crate) struct NodeParts {
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdGen>,
    pub(crate) pepper: Pepper,
    pub(crate) counters: MemoryCounters,
    pub(crate) threads: u16,
    /// Counters were lost at this tick.
    pub(crate) lost_at: Option<Ticks>,
    /// The latest wall time that an earlier life saw.
    pub(crate) latest_wall: Timestamp,
}

impl Node {
    pub(crate) fn new(parts: NodeParts) -> Self {
        let threads = usize::from(parts.threads);
        Self {
            sync: parts.options.journal.sync,
            options: parts.options,
            clock: parts.clock,
            ids: parts.ids,
            pepper: parts.pepper,
            catalog: ArcSwap::default(),
            publishing: Mutex::new(()),
            keys: KeyTable::new(),
            counters: parts.counters,
            metrics: Metrics::default(),
            mailboxes: std::iter::repeat_with(Mailbox::default)
                .take(threads)
                .collect(),
            positions: std::iter::repeat_with(AtomicU64::default)
                .take(threads)
                .collect(),
            periods: PeriodClock::from(parts.latest_wall),
            stage: AtomicUsize::new(Stage::Starting as usize),
            threads_running: AtomicUsize::new(threads),
            lost: LostCounters::new(parts.lost_at),
            published: AtomicU64::new(0),
            turned: std::iter::repeat_with(AtomicU64::default)
                .take(threads)
                .collect(),
            orders: Orders::default(),
            connections: std::iter::repeat_with(AtomicUsize::default)
                .take(threads)
                .collect(),
            by_address: Mutex::default(),
            unidentified: Mutex::default(),
            summaries: Mutex::default(),
            me_calls: Mutex::default(),
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Open,
            2 => Stage::Draining,
            _ => Stage::Cutting,
        }
    }

    /// Whether requests are served, by every thread, and checkpoints written.
    pub(crate) fn is_ready(&self) -> bool {
        let running = self.threads_running.load(Ordering::Acquire);
        let whole = running == self.mailboxes.len() && !self.orders.has_ended();
        self.stage() == Stage::Open && whole
    }

    /// A thread has ended, for whatever reason.
    pub(crate) fn thread_ended(&self) {
        self.threads_running.fetch_sub(1, Ordering::AcqRel);
    }

    /// Moves on to a later stage and tells every thread.
    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as usize, Ordering::AcqRel);
        for mailbox in &self.mailboxes {
            mailbox.notify.notify_one();
        }
    }

    /// Takes a catalog over, unless it is older than the one in force.
    pub(crate) fn publish(&self, catalog: Arc<Catalog>) {
        let _one_at_a_time = self.publishing.lock();
        let before = self.catalog.load();
        if catalog.version <= before.catalog.version && before.catalog.version > 0 {
            return;
        }
        let compiled = Compiled::new(catalog, &self.metrics);
        compiled.raise(before.version());
        let version = compiled.version();
        self.catalog.store(Arc::new(compiled));
        self.tell_version(version);
        self.published.fetch_add(1, Ordering::AcqRel);
        for mailbox in &self.mailboxes {
            mailbox.notify.notify_one();
        }
    }

    /// How many catalogs have been published: as long as it is the same, so is the one in force.
    #[inline]
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// A thread is between two requests: whatever it decides from here on, it decides by what has
    /// been published.
    pub(crate) fn turn(&self, thread: u16) {
        let published = self.published();
        if let Some(turned) = self.turned.get(usize::from(thread)) {
            turned.store(published, Ordering::Release);
        }
    }

    /// Whether no thread decides by an earlier catalog any more.
    pub(crate) fn has_turned(&self) -> bool {
        let published = self.published();
        let behind = |turned: &AtomicU64| turned.load(Ordering::Acquire) < published;
        let ending = self.stage() >= Stage::Draining
            || self.threads_running.load(Ordering::Acquire) < self.mailboxes.len();
        ending || !self.turned.iter().any(behind)
    }

    /// Keys were changed: keys that have ended are cut everywhere.
    pub(crate) fn keys_changed(&self, version: u64, ended: &[KeyId]) {
        {
            let _one_at_a_time = self.publishing.lock();
            let compiled = self.catalog.load();
            compiled.raise(version);
            self.tell_version(compiled.version());
        }
        self.metrics
            .keys
            .set(i64::try_from(self.keys.len()).unwrap_or(i64::MAX));
        if ended.is_empty() {
            return;
        }
        for mailbox in &self.mailboxes {
            mailbox.ended.lock().extend_from_slice(ended);
            mailbox.notify.notify_one();
        }
    }

    fn tell_version(&self, version: u64) {
        let shown = i64::try_from(version).unwrap_or(i64::MAX);
        self.metrics.catalog_version.set(shown);
    }

    /// By thread, the first sequence not claimed: what a snapshot of counters holds lies before.
    pub(crate) fn positions(&self) -> Vec<Sequence> {
        let load = |p: &AtomicU64| Sequence(p.load(Ordering::Acquire));
        self.positions.iter().map(load).collect()
    }

    /// Counts a new connection of an address; false when there is no room for it.
    pub(crate) fn enter(&self, thread: u16, address: IpAddr) -> bool {
        let all: usize = self
            .connections
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum();
        if all >= self.options.connections_max {
            return false;
        }
        let mut by_address = self.by_address.lock();
        let count = by_address.entry(network_of(address)).or_insert(0);
        if *count >= self.options.connections_per_address_max {
            return false;
        }
        *count += 1;
        drop(by_address);
        if let Some(mine) = self.connections.get(usize::from(thread)) {
            mine.fetch_add(1, Ordering::Relaxed);
        }
        self.metrics.connections.inc();
        true
    }

    /// A connection that entered has ended.
    pub(crate) fn leave(&self, thread: u16, address: IpAddr) {
        let network = network_of(address);
        let mut by_address = self.by_address.lock();
        if let Some(count) = by_address.get_mut(&network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                by_address.remove(&network);
            }
        }
        drop(by_address);
        if let Some(mine) = self.connections.get(usize::from(thread)) {
            mine.fetch_sub(1, Ordering::Relaxed);
        }
        self.metrics.connections.dec();
    }

    /// Whether a thread has so many more connections than the mean that others should accept.
    pub(crate) fn is_crowded(&self, thread: u16) -> bool {
        const SLACK: usize = 8;
        let counts = || self.connections.iter().map(|c| c.load(Ordering::Relaxed));
        let mine = counts().nth(usize::from(thread)).unwrap_or(0);
        let mean = counts().sum::<usize>() / self.connections.len().max(1);
        mine > mean + mean / 8 + SLACK
    }

    /// Whether one more refusal of somebody unknown is recorded by itself.
    pub(crate) fn records_unidentified(&self, now: Timestamp) -> bool {
        let second = second_of(now);
        let mut counted = self.unidentified.lock();
        if counted.0 != second {
            *counted = (second, 0);
        }
        counted.1 = counted.1.saturating_add(1);
        counted.1 <= UNKNOWN_KEY_RECORDS_PER_SECOND
    }

    /// Counts a refusal towards the next summary.
    pub(crate) fn summarise(&self, api: &ApiId, code: DenialCode) {
        self.metrics.summarised.inc();
        let mut summaries = self.summaries.lock();
        let count = summaries.entry((api.clone(), code)).or_insert(0);
        *count = count.saturating_add(1);
    }

    /// Takes what waits to be summarised.
    pub(crate) fn take_summaries(&self) -> BTreeMap<(ApiId, DenialCode), u32> {
        std::mem::take(&mut *self.summaries.lock())
    }

    /// Puts a summary back that could not be written.
    pub(crate) fn keep_summary(&self, api: ApiId, code: DenialCode, count: u32) {
        let mut summaries = self.summaries.lock();
        let waiting = summaries.entry((api, code)).or_insert(0);
        *waiting = waiting.saturating_add(count);
    }

    /// Whether an address may ask about itself once more in this second.
    pub(crate) fn may_ask(&self, address: IpAddr, now: Timestamp) -> bool {
        let second = second_of(now);
        let mut calls = self.me_calls.lock();
        if calls.second != second {
            calls.second = second;
            calls.by_address.clear();
        }
        let network = network_of(address);
        let full = calls.by_address.len() >= ME_ADDRESSES_MAX;
        if full && !calls.by_address.contains_key(&network) {
            return false;
        }
        let count = calls.by_address.entry(network).or_insert(0);
        *count = count.saturating_add(1);
        *count <= ME_CALLS_PER_SECOND
    }
}

fn second_of(now: Timestamp) -> u64 {
    u64::try_from(now.0 / 1_000_000).unwrap_or(0)
}
