//! The read-only view: beside the process that writes, and after it died.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::frame::{self, Kind};
use crate::fs::FileHandle;
use crate::scan::{Scan, Step};
use crate::testing::Fault;
use crate::{DiskFilesystem, Filesystem, Folder, OutcomeTotals, ReadError, StreamTotals};

fn folder(filesystem: &Arc<dyn Filesystem>) -> Folder {
    Folder::open(Arc::clone(filesystem), Path::new(DIR))
        .unwrap()
        .unwrap()
}

/// A bench whose process and whose onlooker see the same disk.
pub(super) fn open_beside(bench: &Bench) -> (Journal, Arc<dyn Filesystem>) {
    let filesystem = bench.disk.mount();
    let (clock, options) = (Arc::clone(&bench.clock), bench.options.clone());
    let (journal, _) =
        Journal::open_by_hand(Arc::clone(&filesystem), options, 2, clock, &bench.ids).unwrap();
    (journal, filesystem)
}

fn by_stream(mut totals: Vec<StreamTotals>) -> Vec<StreamTotals> {
    totals.retain(|totals| totals.next.0 > 0);
    totals.sort_by_key(|totals| totals.id.clone().map(|id| (id.epoch, id.thread)));
    totals
}

fn read_from(folder: &Folder, stream: &StreamId, from: Sequence) -> Vec<(Sequence, Entry)> {
    let mut entries = Vec::new();
    let mut from = from;
    loop {
        let range = folder.read(stream, from, 7, 4096).unwrap();
        assert_eq!(range.missing, 0);
        if range.next == from {
            return entries;
        }
        entries.extend(range.entries);
        from = range.next;
    }
}

#[test]
fn where_no_journal_was_ever_opened_there_is_none_to_see() {
    let bench = Bench::new();
    let filesystem = bench.disk.mount();
    let missing = Folder::open(Arc::clone(&filesystem), Path::new(DIR)).unwrap();
    assert!(missing.is_none());
    filesystem.create_dir_all(Path::new(DIR)).unwrap();
    assert!(Folder::open(filesystem, Path::new(DIR)).unwrap().is_none());
    let real = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Filesystem> = Arc::new(DiskFilesystem);
    assert!(
        Folder::open(disk, &real.path().join("journal"))
            .unwrap()
            .is_none()
    );
    assert!(
        !real.path().join("journal").exists(),
        "looking makes nothing"
    );
}

#[test]
fn beside_the_writer_it_tells_what_the_writer_itself_tells() {
    let mut bench = Bench::new();
    for life in 0..3u64 {
        bench.options.keep_us = 0;
        let (journal, filesystem) = open_beside(&bench);
        let folder = folder(&filesystem);
        assert_eq!(folder.node(), journal.node());
        let reader = journal.reader();
        let mut writers = [journal.writer(0).unwrap(), journal.writer(1).unwrap()];
        for round in 0..10u64 {
            for n in round * 130..(round + 1) * 130 {
                append(&mut writers[n as usize % 2], &entry(n)).unwrap();
            }
            assert_eq!(
                by_stream(folder.totals().unwrap()),
                by_stream(reader.totals())
            );
            let written = writers[0].next_sequence();
            if round % 2 == 0 {
                bench.checkpoint(&journal, written.0).unwrap();
                let checkpoint = folder.checkpoint().unwrap();
                assert_eq!(checkpoint.epoch, journal.epoch());
                assert_eq!(checkpoint.shards, [shard(bench.now().ticks, written.0)]);
            } else {
                for stream in reader.streams() {
                    reader.shipped(&stream.id, stream.next);
                }
                journal.purge();
            }
            let written = |stream: &crate::StreamInfo| stream.next.0 > 0;
            let mine: Vec<_> = folder.streams().unwrap();
            let theirs: Vec<_> = reader.streams().into_iter().filter(written).collect();
            assert_eq!(mine.len(), theirs.len());
            for (mine, theirs) in mine.iter().zip(&theirs) {
                assert_eq!(
                    (&mine.id, mine.first, mine.next),
                    (&theirs.id, theirs.first, theirs.next)
                );
                assert_eq!(mine.live, theirs.live);
                let (expected, missing) = read_all(&reader, &mine.id);
                assert_eq!(
                    (read_from(&folder, &mine.id, mine.first), missing),
                    (expected, 0)
                );
            }
        }
        assert!(
            folder
                .streams()
                .unwrap()
                .iter()
                .any(|s| s.first > Sequence(0)),
            "some are deleted"
        );
        if life == 1 {
            bench.disk.kill();
        }
    }
}

#[test]
fn what_was_deleted_since_it_was_listed_is_said_to_be_deleted() {
    let mut bench = Bench::new();
    bench.options.keep_us = 0;
    let (journal, filesystem) = open_beside(&bench);
    let mut writer = journal.writer(0).unwrap();
    for n in 0..900 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let folder = folder(&filesystem);
    let stream = writer.stream().clone();
    journal.reader().shipped(&stream, Sequence(900));
    for _ in 0..2 {
        journal
            .write_checkpoint(bench.now(), &[shard(bench.now().ticks, 900)])
            .unwrap();
    }
    assert!(journal.purge());
    let first = journal.reader().streams()[0].first;
    let read = folder.read(&stream, Sequence(0), 10, 1 << 20);
    assert!(
        matches!(read, Err(ReadError::Deleted { first: f }) if f == first),
        "{read:?}"
    );
    assert_eq!(read_from(&folder, &stream, first), expected(first.0..900));
}

#[test]
fn without_a_ledger_streams_carry_the_name_that_their_segments_say() {
    let bench = Bench::new();
    let (journal, filesystem) = open_beside(&bench);
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    for ledger in ["ledger-a", "ledger-b"] {
        bench.disk.lose(&bench.file(ledger));
    }
    let streams = folder(&filesystem).streams().unwrap();
    assert_eq!(streams.len(), 1);
    assert_eq!(&streams[0].id, writer.stream());
}

#[test]
fn totals_are_told_of_streams_that_held_something_and_of_no_others() {
    let bench = Bench::new();
    for life in 1..4 {
        // The second stream is never written to.
        let (journal, filesystem) = open_beside(&bench);
        let mut writer = journal.writer(0).unwrap();
        append(&mut writer, &entry(0)).unwrap();
        let totals = folder(&filesystem).totals().unwrap();
        assert!(totals.iter().all(|stream| stream.next == Sequence(1)));
        assert_eq!(totals.len(), life);
        drop(writer);
        journal.close().unwrap();
    }
}

#[test]
fn a_segment_that_the_disk_refuses_is_an_error_that_says_so() {
    let bench = Bench::new();
    let (journal, filesystem) = open_beside(&bench);
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    let folder = folder(&filesystem);
    // A read is tried three times.
    (1..=3).for_each(|n| bench.disk.fault_at(n, Fault::Io));
    let read = folder.read(writer.stream(), Sequence(0), 10, 4096);
    let Err(ReadError::Io { path, source }) = read else {
        panic!("{read:?}");
    };
    assert_eq!(path, bench.segments()[0]);
    assert_eq!(
        source.raw_os_error(),
        Some(rustix::io::Errno::IO.raw_os_error())
    );
}

#[test]
fn after_a_kill_it_ends_with_the_last_whole_record_and_changes_nothing() {
    let bench = Bench::new();
    let (journal, _) = open_beside(&bench);
    let mut writer = journal.writer(0).unwrap();
    for n in 0..300 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let stream = writer.stream().clone();
    let room = writer.reserve(512).unwrap();
    // The process dies in the middle of a write.
    bench.disk.fault_at(1, Fault::Torn(60));
    bench.disk.fault_at(2, Fault::Kill);
    writer.append(room, &entry(300)).unwrap_err();
    drop((journal, writer));

    let filesystem = bench.disk.mount();
    let operations = bench.disk.changes();
    let folder = folder(&filesystem);
    let seen = by_stream(folder.totals().unwrap());
    assert_eq!(seen[0].next, Sequence(300));
    assert_eq!(seen[0].totals.events_sum(), 300);
    assert_eq!(read_from(&folder, &stream, Sequence(0)), expected(0..300));
    assert_eq!(bench.disk.changes(), operations, "nothing was changed");
    let found = crate::inspect(&*filesystem, Path::new(DIR)).unwrap();
    assert_eq!(found.damage.torn.len(), 1, "the end is torn");

    let (journal, _) = open_beside(&bench);
    assert_eq!(
        by_stream(journal.reader().totals()),
        seen,
        "the next start says the same"
    );
}

#[test]
fn ends_and_totals_agree_however_fast_segments_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        segment_bytes: 16 * 1024,
        keep_us: 0,
        ..JournalOptions::new(folder.path())
    };
    let clock = Arc::new(ManualClock::at(1_764_000_000_000_000));
    let disk: Arc<dyn Filesystem> = Arc::new(DiskFilesystem);
    let ids = CountingIds::default();
    let opened = Journal::open(Arc::clone(&disk), options, 1, None, clock.clone(), &ids);
    let (journal, _) = opened.unwrap();
    // The writer deletes a few times for every look: as often as looks begin anew, and no more.
    let (looks, stop) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
    let write = |mut n: u64| {
        let mut writer = journal.writer(0).unwrap();
        let reader = journal.reader();
        while !stop.load(Ordering::Relaxed) {
            if n / 500 > 3 * looks.load(Ordering::Relaxed) + 3 {
                std::thread::yield_now();
                continue;
            }
            append(&mut writer, &entry(n)).unwrap();
            n += 1;
            if n.is_multiple_of(500) {
                let at = tollgate_model::Clock::now(&*clock);
                journal.write_checkpoint(at, &[shard(at.ticks, n)]).unwrap();
                reader.shipped(writer.stream(), Sequence(n));
                journal.purge();
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| write(0));
        let _stop = Stop(Arc::clone(&stop));
        let seen = Folder::open(disk, folder.path()).unwrap().unwrap();
        let mut deleted = 0;
        while looks.fetch_add(1, Ordering::Relaxed) < 200 || deleted == 0 {
            let totals = by_stream(seen.totals().unwrap());
            let Some(StreamTotals {
                id: Some(id),
                next,
                totals,
            }) = totals.first()
            else {
                continue;
            };
            let mut expected = OutcomeTotals::default();
            (0..next.0).for_each(|n| expected.add(event(n, 0).outcome, n % 5));
            assert_eq!(totals, &expected, "at {next:?}");
            let from = Sequence(next.0.saturating_sub(700));
            match seen.read(id, from, 300, 1 << 20) {
                Ok(range) => {
                    let numbers = from.0..range.next.0;
                    assert_eq!(range.entries, super::expected(numbers));
                }
                Err(ReadError::Deleted { first }) => {
                    deleted += 1;
                    assert!(first > from);
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
}

/// Ends the writer whatever happens to the onlooker.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A file in which a record appears between two reads, as under a writer.
struct Appearing {
    bytes: Vec<u8>,
    read_once: AtomicBool,
}

impl FileHandle for Appearing {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.read_once.swap(true, Ordering::Relaxed) {
            into.fill(0);
            return Ok(into.len());
        }
        let from = self.bytes.get(offset as usize..).unwrap_or_default();
        let read = from.len().min(into.len());
        into[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_that_are_written_while_they_are_read_are_no_hole() {
    let mut bytes = Vec::new();
    for sequence in 0..2 {
        let mut record = Vec::new();
        frame::begin(&mut record);
        // Longer than what is read at once.
        record.resize(record.len() + (300 << 10), 7);
        frame::finish(&mut record, 1, Kind::Event, sequence, Ticks(1), Ticks(1));
        bytes.extend(record);
    }
    let end = bytes.len() as u64;
    let file = Appearing {
        bytes,
        read_once: AtomicBool::new(false),
    };
    let mut scan = Scan::new(Arc::new(file), 1, 0, end, 0);
    for sequence in 0..2 {
        let step = scan.step().unwrap();
        assert!(
            matches!(step, Step::Record(head) if head.sequence == sequence),
            "{step:?}"
        );
    }
}
