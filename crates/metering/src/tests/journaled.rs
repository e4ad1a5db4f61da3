//! The whole way on real files: journal, shipper, SQLite, questions, proof.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tollgate_journal::{DiskFilesystem, Entry, Journal, JournalOptions, Writer};
use tollgate_model::{EventId, Mark, RequestId, UsageEvent};
use tollgate_store::{UsageStore, testing};
use tollgate_store_sqlite::{Options, SqliteStore};

use super::{CountingIds, NOW, SetClock};
use crate::question::{
    Every, Filter, RecordsQuestion, Span, StatsQuestion, SummaryQuestion, TrendsQuestion,
};
use crate::{
    FolderJournal, JournalView, LocalJournal, Metering, ReconcileOptions, ShipOptions, Shipper,
    reconcile,
};

struct House {
    journal: Journal,
    store: Arc<dyn UsageStore>,
    shipper: Arc<Shipper>,
    writers: Vec<Writer>,
    folder: PathBuf,
}

impl House {
    fn open(folder: &Path) -> Self {
        Self::open_syncing_every(folder, 50_000)
    }

    fn open_syncing_every(folder: &Path, sync_every_us: u64) -> Self {
        let clock = SetClock::at(NOW);
        let ids = Arc::new(CountingIds::default());
        let mut options = JournalOptions::new(folder.join("journal"));
        options.segment_bytes = 64 << 10;
        options.sync_every_us = sync_every_us;
        let fs = Arc::new(DiskFilesystem);
        let (journal, _) =
            Journal::open(fs, options, 2, Some("node-a"), clock.clone(), &*ids).unwrap();
        let file = folder.join("usage.db");
        let store: Arc<dyn UsageStore> =
            Arc::new(SqliteStore::open(&file, &Options::default()).unwrap());
        let source = LocalJournal::new(journal.node().clone(), journal.reader());
        let options = ShipOptions {
            batch_events_max: 100,
            ..ShipOptions::default()
        };
        let shipper = Arc::new(Shipper::new(
            Arc::new(source),
            store.clone(),
            clock,
            ids,
            options,
        ));
        let writers = (0..2).map(|n| journal.writer(n).unwrap()).collect();
        Self {
            journal,
            store,
            shipper,
            writers,
            folder: folder.join("journal"),
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

    fn beside(&self) -> Arc<dyn JournalView> {
        let fs = Arc::new(DiskFilesystem);
        Arc::new(FolderJournal::find(fs, &self.folder).unwrap().unwrap())
    }

    /// The proof finds nothing, beside the open journal.
    async fn is_whole(&self) {
        let options = ReconcileOptions::default();
        let report = reconcile(&self.store, Some(self.beside()), NOW, &options)
            .await
            .unwrap();
        assert!(report.ok, "{report:#?}");
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
async fn what_the_machine_could_still_lose_is_not_shipped() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing is synced but by hand.
    let mut house = House::open_syncing_every(folder.path(), 3_600_000_000);
    for n in 0..10 {
        house.append(n);
    }
    house.shipper.pass().await.unwrap();
    assert_eq!(house.requests().await, 0);
    house.journal.sync();
    for n in 10..20 {
        house.append(n);
    }
    house.shipper.pass().await.unwrap();
    assert_eq!(house.requests().await, 10);
    house.is_whole().await;
    house.journal.sync();
    house.shipper.pass().await.unwrap();
    assert_eq!(house.requests().await, 20);
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

#[tokio::test]
async fn everything_can_run_on_a_runtime_of_many_threads() {
    fn can_move(_: impl Send) {}
    let folder = tempfile::tempdir().unwrap();
    let house = House::open(folder.path());
    let metering = Metering::new(house.store.clone(), SetClock::at(NOW));
    let span = Span::last(testing::HOUR_US, NOW);
    let filter = Filter::default();
    can_move(house.shipper.run(std::future::pending()));
    can_move(house.shipper.flush());
    can_move(metering.summary(SummaryQuestion {
        span,
        filter: filter.clone(),
        quotas: Vec::new(),
    }));
    can_move(metering.trends(&TrendsQuestion {
        span,
        filter,
        every: Every::Hour,
        group_by: None,
        time_zone: TimeZone::UTC,
    }));
    can_move(metering.records(&RecordsQuestion::in_span(span)));
    let journal = house.beside();
    let options = ReconcileOptions::default();
    can_move(reconcile(&house.store, Some(journal), NOW, &options));
}
