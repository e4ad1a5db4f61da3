//! Bugs that this journal had, and those that Vector's disk buffer had (their numbers are Vector's),
//! each as a test that its return would fail.

use super::faults::synced;
use super::*;
use crate::JournalFull;
use crate::testing::{Fault, PowerCut};

/// A journal killed with `count` entries appended, `synced` of them surely on disk.
fn killed(bench: &Bench, count: u64, synced: u64) -> StreamId {
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..count {
        if n == synced {
            journal.sync();
        }
        bench.clock.advance(1_000);
        append(&mut writer, &entry(n)).unwrap();
    }
    let stream = writer.stream().clone();
    bench.disk.kill();
    stream
}

#[test]
fn what_a_killed_life_left_unsynced_is_on_disk_once_the_next_has_read_it() {
    let bench = Bench::new();
    let stream = killed(&bench, 900, 0);
    assert!(bench.segments().len() > 2);
    let (journal, _) = bench.open();
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..900), 0));
    bench.disk.cut_power(PowerCut::LoseAll);
    let (journal, recovered) = bench.open();
    assert!(recovered.damage.is_clean(), "{:?}", recovered.damage);
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..900), 0));
}

#[test]
fn a_sync_that_fails_at_the_start_is_not_believed_the_second_time() {
    let bench = Bench::new();
    let stream = killed(&bench, 900, 0);
    for n in 1..60 {
        let copy = Bench {
            disk: bench.disk.copy(),
            clock: Arc::clone(&bench.clock),
            ids: CountingIds::default(),
            options: bench.options.clone(),
        };
        copy.disk.fault_at(n, Fault::Io);
        drop(copy.try_open(1));
        copy.disk.kill();
        copy.disk.clear_faults();
        drop(copy.open());
        copy.disk.cut_power(PowerCut::LoseAll);
        let (journal, _) = copy.open();
        let found = read_all(&journal.reader(), &stream);
        assert_eq!(found, (expected(0..900), 0), "failed at {n}");
    }
}

#[test]
fn what_a_sync_failed_for_before_a_kill_is_on_disk_once_the_next_start_has_read_it() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..300 {
        bench.clock.advance(1_000);
        append(&mut writer, &entry(n)).unwrap();
    }
    let stream = writer.stream().clone();
    // The kernel forgets what it could not write; the process dies before it could write again.
    bench.disk.fault_always(Some(Fault::Io));
    journal.sync();
    bench.disk.kill();
    bench.disk.clear_faults();
    drop((writer, journal));
    let (journal, _) = bench.open();
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..300), 0));
    bench.disk.cut_power(PowerCut::LoseAll);
    let (journal, recovered) = bench.open();
    assert!(recovered.damage.is_clean(), "{:?}", recovered.damage);
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..300), 0));
}

#[test]
fn a_failure_while_the_journal_has_all_its_disk_heals_without_a_restart() {
    let mut bench = Bench::new();
    bench.options.disk_bytes_max = 3 * bench.options.segment_bytes;
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let mut next = 0;
    let full = loop {
        match writer.reserve(512) {
            Ok(room) => writer.append(room, &entry(next)).unwrap(),
            Err(reason) => break reason,
        };
        next += 1;
    };
    assert_eq!(full, JournalFull::DiskMax);
    bench.disk.fault_at(1, Fault::Io);
    journal.sync();
    // Nothing can be deleted before a checkpoint, and that waits for what has to be written anew.
    bench.checkpoint(&journal, next).unwrap();
    bench.checkpoint(&journal, next).unwrap();
    let stream = writer.stream().clone();
    journal.reader().shipped(&stream, Sequence(next));
    bench.clock.advance(2 * bench.options.keep_us);
    journal.purge();
    journal.sync();
    assert!(journal.status().disk_bytes <= bench.options.disk_bytes_max);
    let room = writer.reserve(512).unwrap();
    writer.append(room, &entry(next)).unwrap();
}

#[test]
fn a_segment_that_cannot_be_read_for_once_is_not_taken_for_an_empty_one() {
    let bench = Bench::new();
    let stream = killed(&bench, 50, 0);
    let path = bench.segments()[0].clone();
    let bytes = bench.disk.bytes(&path);
    bench.disk.spoil(&path, 0, u64::MAX);
    let (_journal, recovered) = bench.open();
    assert!(!recovered.damage.is_clean() && !recovered.complete);
    bench.disk.kill();
    assert_eq!(bench.disk.bytes(&path), bytes, "it stays as it was");
    bench.disk.spoil(&path, 0, 0);
    let (journal, _) = bench.open();
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..50), 0));
}

#[test]
fn a_power_cut_is_told_until_a_checkpoint_follows_and_a_damaged_state_hides_none() {
    for (damaged, closed) in [(false, false), (false, true), (true, false), (true, true)] {
        let bench = Bench::new();
        bench.open().0.close().unwrap();
        killed(&bench, 10, 5);
        bench.disk.cut_power(PowerCut::LoseAll);
        if damaged {
            // The newest copy: only the one before, of a clean end, is left.
            let names = ["state-a", "state-b"].map(|name| bench.file(name));
            let [a, b] = names.each_ref().map(|path| bench.disk.bytes(path));
            let newest = usize::from(a[16..24] < b[16..24]);
            let mut bytes = [a, b][newest].clone();
            bytes[40] ^= 1;
            bench.disk.set_bytes(&names[newest], &bytes);
        }
        let (journal, recovered) = bench.open();
        let told = recovered.lost_span.expect("a power cut is told");
        assert!(!recovered.clean);
        if closed {
            journal.close().unwrap();
        } else {
            bench.disk.kill();
        }
        let (journal, recovered) = bench.open();
        let again = recovered.lost_span.expect("who was told ended");
        assert_eq!(again.from, told.from);
        bench.checkpoint(&journal, 0).unwrap();
        bench.disk.kill();
        assert_eq!(bench.open().1.lost_span, None);
    }
}

#[test]
fn totals_of_a_stream_outlive_its_first_segments_and_a_damaged_header() {
    let mut bench = Bench::new();
    bench.options.keep_us = 0;
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let mut count = 0;
    while bench.segments().len() < 4 {
        append(&mut writer, &entry(count)).unwrap();
        count += 1;
    }
    journal.reader().shipped(writer.stream(), Sequence(count));
    bench.checkpoint(&journal, count).unwrap();
    bench.checkpoint(&journal, count).unwrap();
    journal.purge();
    let before = journal.reader().totals()[0].totals;
    assert_eq!(before.events_sum(), count);
    bench.disk.kill();
    drop((writer, journal));
    let path = bench.segments()[0].clone();
    let mut bytes = bench.disk.bytes(&path);
    bytes[30] ^= 1;
    bench.disk.set_bytes(&path, &bytes);
    let (journal, recovered) = bench.open();
    assert!(!recovered.damage.is_clean());
    assert_eq!(journal.reader().totals()[0].totals, before);
}

#[test]
fn a_stream_whose_files_are_all_gone_is_missed() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..20 {
        append(&mut writer, &entry(n)).unwrap();
    }
    bench.checkpoint(&journal, 20).unwrap();
    bench.disk.kill();
    bench
        .segments()
        .iter()
        .for_each(|path| bench.disk.lose(path));
    let (journal, recovered) = bench.open();
    assert_eq!((recovered.damage.missing, recovered.complete), (20, false));
    bench.disk.kill();
    drop((writer, journal));
    let (journal, recovered) = bench.open();
    assert!(!recovered.complete, "no checkpoint holds the loss yet");
    bench.checkpoint(&journal, 0).unwrap();
    for _ in 0..2 {
        bench.disk.kill();
        let (_journal, recovered) = bench.open();
        assert!(recovered.complete, "the loss is not met again");
    }
}

#[test]
fn a_segment_that_ends_before_a_checkpoints_reach_leaves_the_past_incomplete() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..20 {
        append(&mut writer, &entry(n)).unwrap();
    }
    bench.checkpoint(&journal, 20).unwrap();
    append(&mut writer, &entry(20)).unwrap();
    bench.disk.kill();
    drop((writer, journal));
    let path = bench.segments().remove(0);
    let bytes = bench.disk.bytes(&path);
    bench.disk.set_bytes(&path, bytes.get(..1_500).unwrap());
    let (_journal, recovered) = bench.open();
    assert!(recovered.damage.missing > 0, "{:?}", recovered.damage);
    assert!(
        !recovered.complete,
        "entries after the checkpoint may be gone too"
    );
}

#[test]
fn failed_attempts_to_write_again_take_no_disk() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let mut count = 0;
    while bench.segments().len() < 5 {
        append(&mut writer, &entry(count)).unwrap();
        count += 1;
    }
    let before = journal.status().disk_bytes;
    // The sync fails, and there is room for one more segment but not for all.
    bench.disk.fault_at(1, Fault::Io);
    let segment = bench.options.segment_bytes;
    let held = bench.segments().len() as u64;
    bench
        .disk
        .set_bytes_max(Some((held + 1) * segment + 20_000));
    for _ in 0..50 {
        journal.sync();
        assert!(journal.status().disk_bytes <= before + 2 * segment);
    }
    assert_eq!(writer.reserve(1).err(), Some(JournalFull::Failed));
    bench.disk.set_bytes_max(None);
    journal.sync();
    append(&mut writer, &entry(count)).unwrap();
    assert_eq!(synced(&writer, count), count);
}

#[test]
fn segments_that_could_not_be_deleted_go_later() {
    let mut bench = Bench::new();
    bench.options.segment_bytes = 16 * 1024;
    bench.options.keep_us = 0;
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..900 {
        append(&mut writer, &entry(n)).unwrap();
    }
    journal.reader().shipped(writer.stream(), Sequence(900));
    bench.checkpoint(&journal, 900).unwrap();
    bench.checkpoint(&journal, 900).unwrap();
    let before = bench.segments().len();
    bench.disk.fault_always(Some(Fault::Full));
    assert!(!journal.purge());
    assert_eq!(bench.segments().len(), before);
    bench.disk.fault_always(None);
    assert!(journal.purge());
    assert!(bench.segments().len() <= 3 && before > 3);
    let held: u64 = bench
        .segments()
        .iter()
        .map(|p| bench.disk.bytes(p).len() as u64)
        .sum();
    let small: u64 = ["checkpoint-a", "checkpoint-b"]
        .map(|name| bench.disk.bytes(&bench.file(name)).len() as u64)
        .iter()
        .sum();
    assert_eq!(journal.status().disk_bytes, held + small);
}

#[test]
fn a_name_that_changed_in_its_file_is_not_believed() {
    let bench = Bench::new();
    let (journal, first) = bench.open();
    journal.close().unwrap();
    let path = bench.file("node");
    let bytes = bench.disk.bytes(&path);
    bench.disk.set_bytes(&path, &bytes[..bytes.len() - 12]);
    let (_journal, recovered) = bench.open();
    assert_eq!(recovered.node, first.node);
    assert_eq!(recovered.damage.spots[0].file, "node");
    assert_eq!(bench.disk.bytes(&path), bytes, "and it is written anew");
}

#[test]
fn a_name_whose_file_cannot_be_read_is_told_as_damage_and_one_never_written_is_not() {
    let bench = Bench::new();
    let (journal, first) = bench.open();
    assert!(first.damage.is_clean());
    journal.close().unwrap();
    bench.disk.spoil(&bench.file("node"), 0, u64::MAX);
    let (_journal, recovered) = bench.open();
    assert_eq!(recovered.node, first.node);
    assert_eq!(recovered.damage.spots[0].file, "node");
}

#[test]
fn vector_25639_written_crashed_and_flushed_is_what_the_model_says() {
    for seed in 0..100 {
        let bench = Bench::new();
        let stream = killed(&bench, 60, 40);
        bench.disk.cut_power(PowerCut::Random(seed));
        let (journal, _) = bench.open();
        let mut writer = journal.writer(0).unwrap();
        append(&mut writer, &entry(0)).unwrap();
        journal.sync();
        let found = read_all(&journal.reader(), &stream).0;
        assert!(found.starts_with(&expected(0..40)), "seed {seed}");
        bench.disk.cut_power(PowerCut::LoseAll);
        let (journal, _) = bench.open();
        let reader = journal.reader();
        assert_eq!(read_all(&reader, &stream).0, found, "seed {seed}");
        assert_eq!(read_all(&reader, writer.stream()).0, expected(0..1));
    }
}

#[test]
fn vector_25570_a_crash_between_unlink_and_ledger_leads_to_no_crash_loop() {
    for n in 1..40 {
        for seed in 0..5 {
            let mut bench = Bench::new();
            bench.options.keep_us = 0;
            let (journal, _) = bench.open();
            let mut writer = journal.writer(0).unwrap();
            for n in 0..900 {
                append(&mut writer, &entry(n)).unwrap();
            }
            bench.checkpoint(&journal, 900).unwrap();
            bench.checkpoint(&journal, 900).unwrap();
            journal.reader().shipped(writer.stream(), Sequence(600));
            bench.disk.fault_at(n, Fault::Kill);
            journal.purge();
            bench.disk.clear_faults();
            bench.disk.cut_power(PowerCut::Random(seed));
            for _ in 0..3 {
                let (journal, recovered) = bench.open();
                assert!(recovered.damage.is_clean(), "{n}: {:?}", recovered.damage);
                let reader = journal.reader();
                let info = reader
                    .streams()
                    .into_iter()
                    .find(|i| &i.id == writer.stream());
                let first = info.unwrap().first.0;
                assert!(first <= 600);
                assert_eq!(read_all(&reader, writer.stream()).0, expected(first..900));
                assert_eq!(reader.totals()[0].totals.events_sum(), 900);
                bench.disk.kill();
            }
        }
    }
}

#[test]
fn vector_25768_a_full_disk_at_the_roll_ends_when_there_is_room_again() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    bench.disk.set_bytes_max(Some(140_000));
    let mut count = 0;
    let full = loop {
        match writer.reserve(512) {
            Ok(room) => writer.append(room, &entry(count)).unwrap(),
            Err(full) => break full,
        };
        count += 1;
    };
    assert_eq!(full, JournalFull::NoSpace);
    journal.sync();
    assert_eq!(writer.reserve(512).err(), Some(JournalFull::NoSpace));
    bench.disk.set_bytes_max(None);
    journal.sync();
    for n in count..count + 1_000 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let found = read_all(&journal.reader(), writer.stream());
    assert_eq!(found, (expected(0..count + 1_000), 0));
}

#[test]
fn vector_21683_confirmations_beyond_the_end_or_behind_stop_neither_side() {
    let mut bench = Bench::new();
    bench.options.keep_us = 0;
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let reader = journal.reader();
    for n in 0..900 {
        append(&mut writer, &entry(n)).unwrap();
        let confirmed = [u64::MAX, 0, n + 7, 3][(n % 4) as usize];
        reader.shipped(writer.stream(), Sequence(confirmed));
        if n % 100 == 50 {
            bench.checkpoint(&journal, n + 1).unwrap();
            journal.purge();
        }
    }
    let beyond = reader
        .read(writer.stream(), Sequence(5_000), 10, 100)
        .unwrap();
    assert!(beyond.entries.is_empty() && beyond.next == Sequence(5_000) && beyond.missing == 0);
    let first = reader.streams()[0].first.0;
    assert_eq!(
        read_all(&reader, writer.stream()),
        (expected(first..900), 0)
    );
}

#[test]
fn vector_24948_dropping_the_writer_loses_nothing() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..30 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let stream = writer.stream().clone();
    drop(writer);
    drop(journal);
    bench.disk.cut_power(PowerCut::LoseAll);
    let (journal, recovered) = bench.open();
    assert!(recovered.clean);
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..30), 0));
}

#[test]
fn vector_26198_an_oversize_entry_costs_itself_only_and_is_not_acknowledged() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..10 {
        append(&mut writer, &entry(n)).unwrap();
        let mut large = event(99, 1);
        large.path = Arc::from("x".repeat(100_000));
        let told = append(&mut writer, &entry_of(large, Vec::new()));
        assert_eq!(told, Err(NotWritten::TooLarge));
        assert_eq!(writer.reserve(100_000).err(), Some(JournalFull::TooLarge));
    }
    let found = read_all(&journal.reader(), writer.stream());
    assert_eq!(found, (expected(0..10), 0));
    assert_eq!(journal.reader().totals()[0].totals.events_sum(), 10);
}

#[test]
fn vector_25525_reading_confirms_nothing() {
    let mut bench = Bench::new();
    bench.options.keep_us = 0;
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..900 {
        append(&mut writer, &entry(n)).unwrap();
    }
    bench.checkpoint(&journal, 900).unwrap();
    bench.checkpoint(&journal, 900).unwrap();
    let reader = journal.reader();
    for _ in 0..2 {
        assert_eq!(read_all(&reader, writer.stream()), (expected(0..900), 0));
        assert!(!journal.purge());
        assert_eq!(reader.streams()[0].shipped, Sequence(0));
    }
}

#[test]
fn a_segment_that_alone_cannot_be_deleted_goes_later_and_is_counted_until_then() {
    let mut later = 0;
    for n in 1..30 {
        let mut bench = Bench::new();
        bench.options.segment_bytes = 16 * 1024;
        bench.options.keep_us = 0;
        let (journal, _) = bench.open();
        let mut writer = journal.writer(0).unwrap();
        for n in 0..300 {
            append(&mut writer, &entry(n)).unwrap();
        }
        journal.reader().shipped(writer.stream(), Sequence(300));
        bench.checkpoint(&journal, 300).unwrap();
        bench.checkpoint(&journal, 300).unwrap();
        let small: u64 = ["checkpoint-a", "checkpoint-b"]
            .map(|name| bench.disk.bytes(&bench.file(name)).len() as u64)
            .iter()
            .sum();
        let held = || -> u64 {
            let segments = bench.segments();
            let sizes = segments.iter().map(|p| bench.disk.bytes(p).len() as u64);
            sizes.sum::<u64>() + small
        };
        bench.disk.fault_at(n, Fault::Io);
        journal.purge();
        bench.disk.clear_faults();
        let between = bench.segments().len();
        assert_eq!(journal.status().disk_bytes, held(), "failed at {n}");
        journal.purge();
        assert!(bench.segments().len() <= 3, "failed at {n}");
        assert_eq!(journal.status().disk_bytes, held(), "failed at {n}");
        later += u64::from(between > bench.segments().len());
    }
    assert!(later > 1, "some could not be deleted at first");
}

#[test]
fn segments_that_come_ready_out_of_order_are_used_in_order() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let (shared, live) = (&journal.shared, &journal.shared.live[0]);
    let take = || {
        let index = crate::shared::lock(&live.inner).take_index();
        live.allocate(shared, index, 0).unwrap()
    };
    let spares = [take(), take(), take()];
    for spare in spares.into_iter().rev() {
        live.keep_spare(shared, spare);
    }
    let inner = crate::shared::lock(&live.inner);
    let held: Vec<u64> = inner.spares.iter().map(|spare| spare.name.index).collect();
    assert!(held.len() >= 3 && held.is_sorted(), "{held:?}");
}

#[test]
fn a_stream_s_name_is_in_its_segments_where_every_small_file_is_gone() {
    let bench = Bench::new();
    let stream = killed(&bench, 5, 0);
    // Nothing else says it.
    for file in ["ledger-a", "ledger-b", "state-a", "state-b", "node"] {
        bench.disk.lose(&bench.file(file));
    }
    let (journal, _) = bench.open();
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..5), 0));
}
