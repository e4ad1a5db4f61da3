//! On a real disk, with the sync thread.

use super::*;
use crate::{DiskFilesystem, SyncMode};

fn open(dir: &Path, sync: SyncMode) -> (Journal, Recovered) {
    let options = JournalOptions {
        sync,
        segment_bytes: 64 * 1024,
        ..JournalOptions::new(dir)
    };
    let clock = Arc::new(ManualClock::at(1_764_000_000_000_000));
    let disk = Arc::new(DiskFilesystem);
    Journal::open(disk, options, 2, None, clock, &CountingIds::default()).unwrap()
}

#[test]
fn a_real_folder_holds_everything_over_restarts_and_excludes_others() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("deep/journal");
    let mut streams = Vec::new();
    for _ in 0..3 {
        let (journal, recovered) = open(&dir, SyncMode::Fast);
        assert!(recovered.damage.is_clean() && recovered.complete);
        let second = Journal::open(
            Arc::new(DiskFilesystem),
            JournalOptions::new(&dir),
            1,
            None,
            Arc::new(ManualClock::at(1)),
            &CountingIds::default(),
        );
        assert!(matches!(second, Err(JournalError::InUse(_))));
        let mut writer = journal.writer(1).unwrap();
        for n in 0..1_000 {
            append(&mut writer, &entry(n)).unwrap();
        }
        streams.push(writer.stream().clone());
        let reader = journal.reader();
        for stream in &streams {
            assert_eq!(read_all(&reader, stream), (expected(0..1_000), 0));
        }
        journal.close().unwrap();
        let found = crate::verify(&DiskFilesystem, &dir).unwrap();
        assert!(found.damage.is_clean());
        assert_eq!(found.streams.len(), streams.len());
    }
}

/// The sync thread may be slow to allocate a segment that the writer meanwhile does without.
#[test]
fn a_spare_that_comes_late_does_not_void_what_was_written_meanwhile() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let live = Arc::clone(&journal.shared.live[0]);
    let late = crate::shared::lock(&live.inner).take_index();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..900 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let spare = live.allocate(&journal.shared, late, 0).unwrap();
    live.keep_spare(&journal.shared, spare);
    for n in 900..2_000 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let stream = writer.stream().clone();
    bench.disk.kill();
    drop((journal, writer, live));
    let (journal, recovered) = bench.open();
    assert!(recovered.damage.is_clean(), "{:?}", recovered.damage);
    let (entries, missing) = read_all(&journal.reader(), &stream);
    assert_eq!(missing, 0);
    assert!(entries == expected(0..2_000), "{} entries", entries.len());
    let left = crate::verify(&*bench.disk.mount(), Path::new(DIR)).unwrap();
    assert!(left.damage.is_clean(), "{:?}", left.damage);
}

#[test]
fn the_sync_thread_has_its_name_and_ends_with_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_764_000_000_000_000));
    let (journal, _) = Journal::open(
        Arc::new(DiskFilesystem),
        JournalOptions::new(folder.path()),
        1,
        None,
        Arc::clone(&clock) as Arc<dyn tollgate_model::Clock>,
        &CountingIds::default(),
    )
    .unwrap();
    let thread = journal
        .thread
        .as_ref()
        .map(|handle| handle.thread().clone());
    assert_eq!(
        thread.and_then(|t| t.name().map(str::to_owned)).as_deref(),
        Some("journal-sync")
    );
    journal.close().unwrap();
    assert_eq!(
        Arc::strong_count(&clock),
        1,
        "nobody is left who could read the clock"
    );
}

#[tokio::test]
async fn in_durable_mode_an_entry_resolves_once_it_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path(), SyncMode::Durable);
    let mut writers = [journal.writer(0).unwrap(), journal.writer(1).unwrap()];
    let mut waits = Vec::new();
    for n in 0..50 {
        for writer in &mut writers {
            let sequence = append(writer, &entry(n)).unwrap();
            waits.push(writer.synced(sequence));
        }
    }
    for wait in waits {
        assert_eq!(wait.await, Ok(()));
    }
    let mut told = journal.reader().subscribe();
    let after = append(&mut writers[0], &entry(50)).unwrap();
    let wait = writers[0].synced(after);
    journal.close().unwrap();
    assert_eq!(wait.await, Ok(()), "closing syncs");
    assert!(told.changed().await.is_ok());
    let never = writers[0].synced(Sequence(51));
    assert_eq!(never.await, Err(crate::SyncFailed), "never hangs");
}

#[tokio::test]
async fn in_fast_mode_the_sync_thread_covers_entries_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = open(folder.path(), SyncMode::Fast);
    let mut writer = journal.writer(0).unwrap();
    let mut told = journal.reader().subscribe();
    append(&mut writer, &entry(0)).unwrap();
    told.changed().await.unwrap();
    assert_eq!(journal.status().unsynced_bytes, 0);
}
