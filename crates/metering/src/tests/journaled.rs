//! The whole way on real files: journal, shipper, SQLite, questions, proof.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tollgate_journal::{DiskFilesystem, Entry, Folder, Journal, JournalOptions, Writer};
use tollgate_model::{EventId, Mark, RequestId, UsageEvent};
use tollgate_store::{UsageStore, testing};
use tollgate_store_sqlite::{Options, SqliteStore};

use super::{CountingIds, NOW, SetClock};
use crate::question::{Filter, Span, StatsQuestion};
use crate::{
    BatchSource, JournalFolder, JournalView, LocalJournal, Metering, ReconcileOptions, ShipOptions,
    Shipper, reconcile,
};

struct House {
    folder: PathBuf,
    journal: Journal,
    local: Arc<LocalJournal>,
    store: Arc<dyn UsageStore>,
    shipper: Arc<Shipper>,
    writers: Vec<Writer>,
}

impl House {
    fn open(folder: &Path) -> Self {
        let clock = SetClock::at(NOW);
        let ids = Arc::new(CountingIds::default());
        let mut options = JournalOptions::new(folder.join("journal"));
        options.segment_bytes = 64 << 10;
        let fs = Arc::new(DiskFilesystem);
        let (journal, _) =
            Journal::open(fs, options, 2, Some("node-a"), clock.clone(), &*ids).unwrap();
        let local = Arc::new(LocalJournal::new(journal.node().clone(), journal.reader()));
        let file = folder.join("usage.db");
        let store: Arc<dyn UsageStore> =
            Arc::new(SqliteStore::open(&file, &Options::default()).unwrap());
        let source: Arc<dyn BatchSource> = local.clone();
        let options = ShipOptions {
            batch_events_max: 100,
            ..ShipOptions::default()
        };
        let shipper = Arc::new(Shipper::new(source, store.clone(), clock, ids, options));
        let writers = (0..2).map(|n| journal.writer(n).unwrap()).collect();
        Self {
            folder: folder.to_owned(),
            journal,
            local,
            store,
            shipper,
            writers,
        }
    }

    fn append(&mut self, n: u32) {
        let event = UsageEvent {
            id: EventId::Request(RequestId::from_uuid(u128::from(n))),
            ..testing::event(n % 600)
        };
        let writer = &mut self.writers[n as usize % 2];
        if n.is_multiple_of(7) {
            writer.append_grant(&[] as &[Mark]).unwrap();
        }
        let room = writer.reserve(1_024).unwrap();
        let entry = Entry::Event {
            event,
            charges: Vec::new(),
        };
        writer.append(room, &entry).unwrap();
    }

    async fn requests(&self) -> u64 {
        let metering = Metering::new(self.store.clone(), SetClock::at(NOW));
        let question = StatsQuestion {
            span: Span::last(2 * testing::HOUR_US, NOW),
            filter: Filter::default(),
            quota: None,
        };
        metering.stats(&question).await.unwrap().requests
    }

    /// Seen from inside and, through the folder alone, from outside.
    async fn is_whole(&self) {
        let inside: Arc<dyn JournalView> = self.local.clone();
        let fs = Arc::new(DiskFilesystem);
        let folder = Folder::open(fs, &self.folder.join("journal")).unwrap();
        let outside: Arc<dyn JournalView> = Arc::new(JournalFolder::new(folder.unwrap()));
        let options = ReconcileOptions::default();
        let mut said = Vec::new();
        for view in [inside, outside] {
            let report = reconcile(&self.store, Some(view), NOW, &options).await;
            let report = report.unwrap();
            assert!(report.ok, "{report:#?}");
            said.push(report.lines);
        }
        assert_eq!(said[0], said[1]);
    }
}

#[tokio::test]
async fn what_is_appended_before_and_after_a_restart_is_counted_once_and_proven() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::open(folder.path());
    for n in 0..500 {
        house.append(n);
    }
    house.is_whole().await;
    house.shipper.flush().await.unwrap();
    assert_eq!(house.requests().await, 500);
    for n in 500..700 {
        house.append(n);
    }
    // Some waits, some is taken in.
    house.is_whole().await;
    let House { journal, .. } = house;
    journal.close().unwrap();

    let mut house = House::open(folder.path());
    for n in 700..800 {
        house.append(n);
    }
    house.is_whole().await;
    house.shipper.flush().await.unwrap();
    assert_eq!(house.requests().await, 800);
    house.is_whole().await;
}

#[tokio::test]
async fn the_loop_makes_an_append_visible_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::open(folder.path());
    let shipper = house.shipper.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = shipper.run(async {
        drop(stopped.await);
    });
    let driving = async {
        for n in 0..20 {
            house.append(n);
            while house.requests().await <= u64::from(n) {
                tokio::task::yield_now().await;
            }
        }
        drop(stop);
    };
    let both = async { tokio::join!(running, driving) };
    // 20 round trips of at most 250 ms each.
    tokio::time::timeout(Duration::from_secs(5), both)
        .await
        .unwrap();
}
