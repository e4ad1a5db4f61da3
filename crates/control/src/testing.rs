//! What this crate's tests stand on: a clock that is set, ids that count up, a sink that writes
//! down what it is told, and a store that can be made to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tollgate_model::{
    Catalog, CatalogSink, Clock, IdGen, KeyChange, KeyDelta, Now, Pepper, Ticks, Timestamp,
};
use tollgate_store::{MemoryStore, Store};

use crate::{ApplyOptions, Control};

/// 2025-11-24T16:00:00Z.
pub const BEGIN: Timestamp = Timestamp(1_764_000_000_000_000);

pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn pass_us(&self, us: i64) {
        self.0.fetch_add(us, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let wall = Timestamp(self.0.load(Ordering::SeqCst));
        Now {
            wall,
            ticks: Ticks(0),
        }
    }
}

#[derive(Default)]
pub struct CountingIds(AtomicU64);

impl IdGen for CountingIds {
    fn uuid(&self, _at: Timestamp) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::SeqCst))
    }
    fn fill(&self, secret: &mut [u8]) {
        let seed = self.0.fetch_add(1, Ordering::SeqCst);
        let mut state = seed + 1;
        for byte in secret {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
    }
}

/// What was published.
#[derive(Debug, Clone)]
pub enum Published {
    Catalog(Arc<Catalog>),
    Keys(KeyDelta),
    /// With this number, every key was told.
    AllKeys(u64),
}

#[derive(Default)]
pub struct RecordingSink(parking_lot::Mutex<Vec<Published>>);

impl RecordingSink {
    pub fn take(&self) -> Vec<Published> {
        std::mem::take(&mut self.0.lock())
    }

    /// `catalog 3`, `keys 4 put hm-id`: one line each.
    pub fn take_lines(&self) -> Vec<String> {
        let line = |published: &Published| match published {
            Published::Catalog(catalog) => format!("catalog {}", catalog.version),
            Published::Keys(delta) => {
                let mut line = format!("keys {}", delta.version);
                for change in &delta.changes {
                    line.push_str(match change {
                        KeyChange::Put(_) => " put",
                        KeyChange::Remove(_) => " remove",
                    });
                }
                line
            }
            Published::AllKeys(version) => format!("all {version}"),
        };
        self.take().iter().map(line).collect()
    }
}

impl CatalogSink for RecordingSink {
    fn publish_catalog(&self, catalog: Arc<Catalog>) {
        self.0.lock().push(Published::Catalog(catalog));
    }
    fn publish_keys(&self, delta: KeyDelta) {
        self.0.lock().push(Published::Keys(delta));
    }
    fn forget_keys_before(&self, version: u64) {
        self.0.lock().push(Published::AllKeys(version));
    }
}

/// A control on an in-memory store, and everything around it.
pub struct House {
    pub control: Control,
    pub store: Arc<MemoryStore>,
    pub sink: Arc<RecordingSink>,
    pub clock: Arc<ManualClock>,
}

impl House {
    /// Started, empty.
    pub async fn empty() -> Self {
        let store = Arc::new(MemoryStore::default());
        let house = Self::beside(store);
        house.control.start().await.unwrap();
        house.sink.take();
        house
    }

    /// Not yet started, on a store that others may use too.
    pub fn beside(store: Arc<MemoryStore>) -> Self {
        let sink = Arc::new(RecordingSink::default());
        let clock = Arc::new(ManualClock(AtomicI64::new(BEGIN.0)));
        let control = control(store.clone(), sink.clone(), clock.clone());
        Self {
            control,
            store,
            sink,
            clock,
        }
    }

    /// Started, with the example catalog applied.
    pub async fn example() -> Self {
        let house = Self::empty().await;
        house.apply(crate::EXAMPLE_CATALOG).await;
        house.sink.take();
        house
    }

    pub async fn apply(&self, text: &str) -> crate::ApplyReport {
        self.control.apply(text, &options(false)).await.unwrap()
    }
}

/// A control that shares a store with others.
pub fn control(
    store: Arc<dyn Store>,
    sink: Arc<RecordingSink>,
    clock: Arc<ManualClock>,
) -> Control {
    let ids = Arc::new(CountingIds::default());
    Control::new(store, sink, clock, ids, Pepper::new(b"pepper".to_vec()))
}

pub fn options(prune: bool) -> ApplyOptions {
    ApplyOptions {
        prune,
        dry_run: false,
        actor: "test".into(),
    }
}
