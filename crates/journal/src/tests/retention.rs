//! What may go, when, and what outlives it.

use super::*;
use crate::{JournalFull, OutcomeTotals, ReadError, inspect, verify};

fn fill(writer: &mut Writer, numbers: std::ops::Range<u64>) {
    for n in numbers {
        append(writer, &entry(n)).unwrap();
    }
}

fn sum(reader: &Reader) -> OutcomeTotals {
    let mut sum = OutcomeTotals::default();
    reader.totals().iter().for_each(|t| sum.merge(&t.totals));
    sum
}

#[test]
fn a_segment_goes_when_shipped_covered_twice_and_old_enough() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    fill(&mut writer, 0..900);
    journal.sync();
    let stream = writer.stream().clone();
    let reader = journal.reader();
    let before = bench.segments().len();

    bench.clock.advance(bench.options.keep_us + 1);
    assert!(!journal.purge(), "not shipped");
    reader.shipped(&stream, Sequence(600));
    assert!(!journal.purge(), "not covered");
    bench.checkpoint(&journal, 900).unwrap();
    assert!(!journal.purge(), "covered once");
    bench.checkpoint(&journal, 500).unwrap();
    assert!(journal.purge());
    let left = bench.segments().len();
    assert!(left < before);
    let info = reader
        .streams()
        .into_iter()
        .find(|s| s.id == stream)
        .unwrap();
    assert!(info.first > Sequence(0) && info.first <= Sequence(500));
    let deleted = reader.read(&stream, Sequence(0), 1, 1);
    assert!(matches!(deleted, Err(ReadError::Deleted { first }) if first == info.first));
    let range = reader.read(&stream, info.first, 2_000, 1 << 20).unwrap();
    assert_eq!(range.entries, expected(info.first.0..900));
    assert!(!journal.purge(), "nothing more may go");
    assert_eq!(sum(&reader).events_sum(), 900);

    bench.disk.kill();
    drop((writer, journal, reader));
    let (journal, recovered) = bench.open();
    assert!(
        recovered.damage.is_clean() && recovered.complete,
        "{:?}",
        recovered.damage
    );
    assert_eq!(sum(&journal.reader()).events_sum(), 900);
    let entries = read_all(&journal.reader(), &stream).0;
    assert_eq!(entries, expected(info.first.0..900));
}

#[test]
fn young_segments_stay_until_the_disk_is_needed() {
    let mut bench = Bench::new();
    bench.options.disk_bytes_max = 6 * bench.options.segment_bytes;
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let stream = writer.stream().clone();
    let mut n = 0;
    let full = loop {
        match writer.reserve(512) {
            Ok(room) => {
                writer.append(room, &entry(n)).unwrap();
                n += 1;
            }
            Err(full) => break full,
        }
    };
    assert_eq!(full, JournalFull::DiskMax);
    assert!(journal.status().disk_bytes <= bench.options.disk_bytes_max);
    let reader = journal.reader();
    reader.shipped(&stream, Sequence(n));
    bench.checkpoint(&journal, n).unwrap();
    bench.checkpoint(&journal, n).unwrap();
    assert!(!journal.purge(), "younger than keep");
    journal.sync();
    // Now there is room again, and no more was deleted than was needed.
    let room = writer.reserve(512).unwrap();
    writer.append(room, &entry(n)).unwrap();
    let first = reader.streams()[0].first;
    assert!(first > Sequence(0) && first.0 < n / 2, "{first:?}");
    assert_eq!(read_all(&reader, &stream).0, expected(first.0..n + 1));
    let segments = bench.segments();
    let held: usize = segments.iter().map(|p| bench.disk.bytes(p).len()).sum();
    assert!(journal.status().disk_bytes >= held as u64);
}

#[test]
fn totals_outlive_streams_and_all_starts() {
    let bench = Bench::new();
    let mut expected_events = 0;
    for start in 0..5u64 {
        let (journal, recovered) = bench.open();
        assert!(recovered.damage.is_clean(), "{:?}", recovered.damage);
        let mut writer = journal.writer(0).unwrap();
        fill(&mut writer, 0..start * 100);
        expected_events += start * 100;
        let reader = journal.reader();
        for stream in reader.streams() {
            reader.shipped(&stream.id, stream.next);
        }
        let position = start * 100;
        bench.checkpoint(&journal, position).unwrap();
        bench.checkpoint(&journal, position).unwrap();
        bench.clock.advance(bench.options.keep_us + 1);
        journal.purge();
        assert_eq!(sum(&reader).events_sum(), expected_events);
        let older = reader.streams().into_iter().filter(|stream| !stream.live);
        assert_eq!(older.count(), 0, "all older streams are deleted");
        if start % 2 == 0 {
            bench.disk.kill();
        }
    }
    let found = inspect(&*bench.disk.mount(), Path::new(DIR)).unwrap();
    let mut all = found.retired;
    found.streams.iter().for_each(|s| all.merge(&s.totals));
    assert_eq!(all.events_sum(), expected_events);
    let found = verify(&*bench.disk.mount(), Path::new(DIR)).unwrap();
    assert!(found.damage.is_clean(), "{:?}", found.damage);
}

#[test]
fn a_platform_restored_from_a_backup_finds_what_it_had_confirmed() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    fill(&mut writer, 0..500);
    let reader = journal.reader();
    let stream = writer.stream().clone();
    bench.checkpoint(&journal, 500).unwrap();
    bench.checkpoint(&journal, 500).unwrap();
    reader.shipped(&stream, Sequence(500));
    assert!(!journal.purge(), "kept for that case");
    reader.shipped(&stream, Sequence(100));
    bench.clock.advance(bench.options.keep_us + 1);
    journal.purge();
    assert!(reader.read(&stream, Sequence(100), 10, 1 << 20).is_ok());
}

#[test]
fn looking_in_beside_a_running_journal_shows_where_it_stands() {
    let bench = Bench::new();
    let filesystem = bench.disk.mount();
    let clock = Arc::clone(&bench.clock);
    let options = bench.options.clone();
    let (journal, recovered) =
        Journal::open_by_hand(Arc::clone(&filesystem), options, 1, clock, &bench.ids).unwrap();
    let mut writer = journal.writer(0).unwrap();
    fill(&mut writer, 0..700);
    for found in [
        inspect(&*filesystem, Path::new(DIR)).unwrap(),
        verify(&*filesystem, Path::new(DIR)).unwrap(),
    ] {
        assert!(found.damage.is_clean() && !found.clean);
        assert_eq!(found.node.as_deref(), Some(recovered.node.as_str()));
        assert_eq!(found.epoch, Some(recovered.epoch));
        let [stream] = found.streams.as_slice() else {
            panic!("{:?}", found.streams);
        };
        assert_eq!(stream.node, recovered.node.as_str());
        assert_eq!(stream.next, Sequence(700));
        assert_eq!(stream.totals, sum(&journal.reader()));
        assert_eq!(stream.totals.events_sum(), 700);
        assert!(!stream.sealed);
    }
}

#[test]
fn what_is_gone_without_the_ledger_knowing_is_missed_to_the_entry() {
    let mut bench = Bench::new();
    bench.options.keep_us = 0;
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    fill(&mut writer, 0..2_000);
    let stream = writer.stream().clone();
    let reader = journal.reader();
    reader.shipped(&stream, Sequence(700));
    for _ in 0..2 {
        bench.checkpoint(&journal, 2_000).unwrap();
    }
    assert!(journal.purge());
    let kept_from = reader.streams()[0].first;
    assert!(kept_from > Sequence(0));
    let look = || verify(&*bench.disk.view(), Path::new(DIR)).unwrap();
    let told = |found: &crate::Inspection| {
        let [stream] = found.streams.as_slice() else {
            panic!("{:?}", found.streams);
        };
        (stream.segments, stream.first, stream.next, stream.shipped)
    };
    let before = look();
    // One more stands ready.
    let segments = bench.segments().len() - 1;
    assert!(before.damage.is_clean());
    assert_eq!(before.streams[0].records, 2_000 - kept_from.0);
    assert_eq!(
        told(&before),
        (segments, kept_from, Sequence(2_000), Sequence(700))
    );
    assert_eq!(before.checkpoints.len(), 2);

    bench.disk.lose(&bench.segments()[0]);
    let after = look();
    assert_eq!(
        told(&after),
        (segments - 1, kept_from, Sequence(2_000), Sequence(700))
    );
    let [spot] = after.damage.spots.as_slice() else {
        panic!("{:?}", after.damage);
    };
    assert_eq!(spot.kind, crate::DamageKind::Missing);
    assert_eq!(after.streams[0].records, 2_000 - kept_from.0 - spot.missing);
    assert!(spot.missing > 0);
    bench.disk.kill();
    drop((writer, journal, reader));
    assert_eq!(bench.open().1.damage.missing, spot.missing);
}

#[test]
fn a_segment_that_is_gone_already_gives_its_bytes_back_when_it_may_go() {
    let mut bench = Bench::new();
    bench.options.keep_us = 0;
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    fill(&mut writer, 0..900);
    journal.reader().shipped(writer.stream(), Sequence(900));
    for _ in 0..2 {
        bench.checkpoint(&journal, 900).unwrap();
    }
    bench.disk.lose(&bench.segments()[0]);
    assert!(journal.purge());
    let mut files = bench.segments();
    files.extend(["checkpoint-a", "checkpoint-b"].map(|name| bench.file(name)));
    let held: usize = files.iter().map(|p| bench.disk.bytes(p).len()).sum();
    assert_eq!(journal.status().disk_bytes, held as u64);
}

#[test]
fn what_deleted_streams_summed_up_to_is_told_by_everyone_and_outlives_starts() {
    let bench = Bench::new();
    let mut retired = OutcomeTotals::default();
    retired.add(tollgate_model::Outcome::Denied, 5);
    let (journal, _) = bench.open();
    let told = |reader: &Reader| {
        let mut totals = reader.totals().into_iter();
        totals
            .find(|stream| stream.id.is_none())
            .map(|stream| stream.totals)
    };
    assert_eq!(told(&journal.reader()), None);
    {
        let mut ledger = crate::shared::lock(&journal.shared.ledger);
        ledger.retired_streams = 1;
        ledger.retired = retired;
    }
    assert_eq!(told(&journal.reader()), Some(retired));
    journal.close().unwrap();
    let filesystem = bench.disk.mount();
    let folder = crate::Folder::open(filesystem, Path::new(DIR))
        .unwrap()
        .unwrap();
    let seen = folder.totals().unwrap();
    assert!(
        seen.iter()
            .any(|stream| stream.id.is_none() && stream.totals == retired)
    );
    let (journal, recovered) = bench.open();
    assert_eq!(told(&journal.reader()), Some(retired));
    assert!(!recovered.complete, "no checkpoint tells what they charged");
}

#[test]
fn streams_that_never_held_an_entry_are_forgotten_with_the_life_they_were_of() {
    let bench = Bench::new();
    for life in 0..3 {
        let (journal, recovered) = bench.try_open(2).unwrap();
        let totals = journal.reader().totals();
        let older = totals.iter().filter_map(|stream| {
            let id = stream.id.as_ref().filter(|id| id.epoch < recovered.epoch);
            id.map(|_| stream.next)
        });
        assert_eq!(older.collect::<Vec<_>>(), vec![Sequence(1); life]);
        let mut writer = journal.writer(0).unwrap();
        fill(&mut writer, 0..1);
        bench.disk.kill();
    }
}

#[test]
fn whoever_reads_on_opens_nothing_again() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let stream = writer.stream().clone();
    fill(&mut writer, 0..100);
    let reader = journal.reader();
    assert_eq!(read_all(&reader, &stream).0, expected(0..100));
    fill(&mut writer, 100..101);
    let cost = |reader: &Reader| {
        let before = bench.disk.operations();
        let range = reader.read(&stream, Sequence(100), 1_000, 1 << 20);
        assert_eq!(range.unwrap().entries, expected(100..101));
        bench.disk.operations() - before
    };
    assert_eq!((cost(&reader), cost(&journal.reader())), (1, 2));
}
