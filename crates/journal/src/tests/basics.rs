//! What holds while nothing fails.

use super::*;
use crate::testing::{Fault, mark};
use crate::{JournalFull, OutcomeTotals, ReadError};

#[test]
fn entries_come_back_in_order_and_the_same_range_has_the_same_bytes() {
    let bench = Bench::new();
    let (journal, recovered) = bench.open();
    assert!(recovered.fresh && recovered.complete && recovered.entries.is_empty());
    let mut writer = journal.writer(0).unwrap();
    assert!(journal.writer(0).is_none(), "a stream has one writer");
    assert!(journal.writer(1).is_none());
    for n in 0..1_000 {
        assert_eq!(writer.next_sequence(), Sequence(n));
        assert_eq!(append(&mut writer, &entry(n)), Ok(Sequence(n)));
    }
    let reader = journal.reader();
    let (entries, missing) = read_all(&reader, writer.stream());
    assert_eq!((entries, missing), (expected(0..1_000), 0));
    assert!(bench.segments().len() > 2, "several segments were used");

    let once = reader
        .read(writer.stream(), Sequence(300), 250, 1 << 20)
        .unwrap();
    let twice = journal
        .reader()
        .read(writer.stream(), Sequence(300), 250, 1 << 20)
        .unwrap();
    assert_eq!(once, twice);
    assert_eq!(once.next, Sequence(550));
    let by_bytes = reader.read(writer.stream(), Sequence(0), 1_000, 1).unwrap();
    assert_eq!(by_bytes.entries.len(), 1, "one entry in any case");
    let beyond = reader
        .read(writer.stream(), Sequence(2_000), 10, 10)
        .unwrap();
    assert_eq!((beyond.next, beyond.entries.len()), (Sequence(2_000), 0));
    let mut other = writer.stream().clone();
    other.epoch = 99;
    let unknown = reader.read(&other, Sequence(0), 1, 1);
    assert!(matches!(unknown, Err(ReadError::UnknownStream(_))));
    assert!(reader.damage().is_clean());
}

#[test]
fn readers_see_only_what_is_written_and_are_told_of_more() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let reader = journal.reader();
    let mut told = reader.subscribe();
    told.mark_unchanged();
    for n in 0..20 {
        let range = reader
            .read(writer.stream(), Sequence(n), 10, 1 << 20)
            .unwrap();
        assert_eq!((range.next, range.entries.len()), (Sequence(n), 0));
        append(&mut writer, &entry(n)).unwrap();
        let range = reader
            .read(writer.stream(), Sequence(n), 10, 1 << 20)
            .unwrap();
        assert_eq!(range.entries, expected(n..n + 1));
    }
    assert!(!told.has_changed().unwrap());
    journal.sync();
    assert!(told.has_changed().unwrap());
    told.mark_unchanged();
    journal.sync();
    assert!(!told.has_changed().unwrap(), "nothing new, nobody woken");
}

#[test]
fn every_kind_of_entry_reads_back() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let marks = vec![mark(1, 64), mark(2, 128)];
    assert_eq!(writer.append_grant(&marks), Ok(Sequence(0)));
    append(&mut writer, &progress(5)).unwrap();
    append(&mut writer, &entry(5)).unwrap();
    let (entries, _) = read_all(&journal.reader(), writer.stream());
    let entries: Vec<Entry> = entries.into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(entries, [Entry::Grant(marks), progress(5), entry(5)]);
}

#[test]
fn a_clean_stop_keeps_everything_and_raises_the_epoch() {
    let bench = Bench::new();
    let (journal, first) = bench.try_open(2).unwrap();
    let mut streams = Vec::new();
    let mut totals = OutcomeTotals::default();
    for thread in 0..2 {
        let mut writer = journal.writer(thread).unwrap();
        for n in 0..300 {
            append(&mut writer, &entry(n)).unwrap();
            totals.add(event(n, 0).outcome, n % 5);
        }
        streams.push(writer.stream().clone());
    }
    journal.close().unwrap();
    let inspection = crate::verify(&*bench.disk.mount(), Path::new(DIR)).unwrap();
    assert!(inspection.damage.is_clean() && inspection.clean);

    for start in 1..4 {
        let (journal, recovered) = bench.try_open(2).unwrap();
        assert_eq!(recovered.node, first.node, "the name is kept");
        assert_eq!(recovered.epoch, first.epoch + start);
        assert!(recovered.clean && recovered.complete && !recovered.fresh);
        assert!(recovered.damage.is_clean() && recovered.damage.torn.is_empty());
        assert_eq!(recovered.lost_span, None);
        assert_eq!(
            recovered.entries.len(),
            600,
            "one charge an event, no checkpoint"
        );
        let reader = journal.reader();
        for stream in &streams {
            assert_eq!(read_all(&reader, stream), (expected(0..300), 0));
        }
        let mut sum = OutcomeTotals::default();
        reader.totals().iter().for_each(|t| sum.merge(&t.totals));
        assert_eq!(sum, totals, "counted once, whatever was restarted");
        journal.close().unwrap();
    }
}

#[test]
fn two_processes_cannot_open_one_journal_until_the_first_lets_go() {
    let bench = Bench::new();
    let filesystem = bench.disk.mount();
    let open = || {
        let clock = Arc::clone(&bench.clock);
        let options = bench.options.clone();
        Journal::open_by_hand(Arc::clone(&filesystem), options, 1, clock, &bench.ids)
    };
    let (journal, _) = open().unwrap();
    let second = open();
    assert!(matches!(second, Err(JournalError::InUse(_))));
    let reader = journal.reader();
    journal.close().unwrap();
    open().unwrap();
    drop(reader);
}

#[test]
fn rooms_hold_segment_space_and_give_it_back() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let mut rooms = Vec::new();
    bench.disk.set_bytes_max(Some(200 * 1024));
    let full = loop {
        match writer.reserve(1_000) {
            Ok(room) => rooms.push(room),
            Err(full) => break full,
        }
    };
    assert_eq!(full, JournalFull::NoSpace);
    // Whoever holds a room can append whatever the disk says now.
    bench.disk.set_bytes_max(Some(0));
    let held = rooms.len() as u64;
    for (n, room) in rooms.drain(..).enumerate() {
        let (mut big, charges) = (event(n as u64, 1), Vec::new());
        big.path = "x".repeat(700).into();
        writer.append(room, &entry_of(big, charges)).unwrap();
    }
    assert_eq!(writer.next_sequence(), Sequence(held));
    assert_eq!(writer.reserve(60_000).err(), Some(JournalFull::TooLarge));
    // Space comes back.
    bench.disk.set_bytes_max(None);
    journal.sync();
    drop(writer.reserve(1_000).unwrap());
    assert!(read_all(&journal.reader(), writer.stream()).0.len() as u64 == held);
}

#[test]
fn a_name_that_is_given_wins_and_stays() {
    let bench = Bench::new();
    let open = |name: Option<&str>| {
        let clock = Arc::clone(&bench.clock);
        let options = bench.options.clone();
        Journal::open(bench.disk.mount(), options, 1, name, clock, &bench.ids)
            .map(|(_, recovered)| recovered.node.as_str().to_owned())
    };
    assert_eq!(open(Some("edge-1")).unwrap(), "edge-1");
    assert_eq!(open(None).unwrap(), "edge-1");
    assert_eq!(open(Some("edge-2")).unwrap(), "edge-2");
    assert!(matches!(open(Some("")), Err(JournalError::NodeName)));
    assert!(matches!(open(Some("a b")), Err(JournalError::NodeName)));
    bench.disk.set_bytes(&bench.file("node"), b"\xff\xfe");
    assert_eq!(open(None).unwrap(), "edge-2", "the state remembers it too");
}

#[test]
fn a_new_folder_begins_above_the_epochs_of_one_that_is_gone() {
    let open = |bench: &Bench| {
        let (clock, options) = (Arc::clone(&bench.clock), bench.options.clone());
        let disk = bench.disk.mount();
        Journal::open(disk, options, 1, Some("edge-1"), clock, &bench.ids).unwrap()
    };
    let before = Bench::new();
    let mut epoch = 0;
    for _ in 0..10 {
        epoch = open(&before).1.epoch;
        before.clock.advance(1_000_000);
    }
    let after = Bench {
        clock: Arc::clone(&before.clock),
        ..Bench::new()
    };
    let (_, recovered) = open(&after);
    assert!(recovered.fresh);
    assert!(
        recovered.epoch > epoch,
        "its streams are others than those of the folder before"
    );
}

#[test]
fn nothing_is_taken_after_the_journal_is_closed() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let room = writer.reserve(512).unwrap();
    journal.close().unwrap();
    assert_eq!(writer.append(room, &entry(0)), Err(NotWritten::Closed));
    assert_eq!(writer.reserve(1).err(), Some(JournalFull::Closed));
    assert_eq!(writer.append_grant(&[mark(1, 1)]), Err(JournalFull::Closed));
}

#[test]
fn options_that_contradict_themselves_are_refused() {
    let mut bench = Bench::new();
    bench.options.disk_bytes_max = 3 * bench.options.segment_bytes;
    assert!(matches!(bench.try_open(2), Err(JournalError::Options(_))));
    assert!(matches!(bench.try_open(0), Err(JournalError::Options(_))));
    bench.options.segment_bytes = 100;
    assert!(matches!(bench.try_open(1), Err(JournalError::Options(_))));
    bench.options.disk_bytes_max = u64::MAX;
    for (segment_bytes, sync_every_us, good) in [
        (64 << 10, 1, true),
        (1 << 30, 1, true),
        ((1 << 30) + 1, 1, false),
        (64 << 10, 0, false),
    ] {
        bench.options.segment_bytes = segment_bytes;
        bench.options.sync_every_us = sync_every_us;
        assert_eq!(bench.options.check(1).is_ok(), good, "{segment_bytes}");
    }
    bench.options = Bench::new().options;
    for (bytes, good) in [(0, true), (1, false)] {
        bench.options.disk_bytes_max = 2 * bench.options.segment_bytes - bytes;
        assert_eq!(bench.options.check(1).is_ok(), good);
    }
}

#[test]
fn rooms_fill_the_segment_in_use_and_the_spare_before_another_is_taken() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    journal.sync();
    let segments = bench.segments().len();
    let most = crate::live::usable_bytes(bench.options.segment_bytes);
    let mut rooms = Vec::new();
    while bench.segments().len() == segments {
        rooms.push(writer.reserve(1_000).unwrap());
    }
    let held = rooms.len() as u64 * 1_000;
    assert!(held > 2 * most - 4_000, "{held} of {}", 2 * most);
    drop(rooms);
    let most = most as usize - crate::frame::FRAME_BYTES;
    drop(writer.reserve(most).unwrap());
    assert_eq!(writer.reserve(most + 1).err(), Some(JournalFull::TooLarge));
}

#[test]
fn an_entry_may_fill_a_segment_to_its_last_byte_and_no_further() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let padded = |length: usize| {
        let mut event = event(0, 1);
        event.path = Arc::from("x".repeat(length));
        entry_of(event, Vec::new())
    };
    append(&mut writer, &padded(50_000)).unwrap();
    let reader = journal.reader();
    let range = reader.read(writer.stream(), Sequence(0), 1, 1).unwrap();
    let most = bench.options.segment_bytes as usize - crate::segment::HEADER_BYTES;
    let exact = 50_000 + most - range.bytes;
    assert_eq!(
        append(&mut writer, &padded(exact + 1)),
        Err(NotWritten::TooLarge)
    );
    assert_eq!(append(&mut writer, &padded(exact)), Ok(Sequence(1)));
    let range = reader.read(writer.stream(), Sequence(1), 1, 1).unwrap();
    assert_eq!(range.entries, [(Sequence(1), padded(exact))]);
    assert_eq!(range.bytes, most);
}

#[test]
fn a_grant_takes_no_space_that_rooms_hold() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    bench.disk.set_bytes_max(Some(200 * 1024));
    let mut rooms = Vec::new();
    while let Ok(room) = writer.reserve(1_000) {
        rooms.push(room);
    }
    let marks: Vec<_> = (0..100).map(|n| mark(n, 1)).collect();
    assert_eq!(writer.append_grant(&marks), Err(JournalFull::NoSpace));
    rooms.truncate(rooms.len() - 10);
    assert_eq!(writer.append_grant(&marks), Ok(Sequence(0)));
}

#[test]
fn each_stream_says_for_itself_how_far_it_is_on_disk() {
    let bench = Bench::new();
    let (journal, _) = bench.try_open(2).unwrap();
    let reader = journal.reader();
    let mut writers = [journal.writer(0).unwrap(), journal.writer(1).unwrap()];
    let synced = |writers: &[Writer; 2]| {
        let [one, other] = writers;
        [one, other].map(|writer| reader.synced(writer.stream()).0)
    };
    for n in 0..3 {
        append(&mut writers[0], &entry(n)).unwrap();
    }
    assert_eq!(synced(&writers), [0, 0]);
    journal.sync();
    assert_eq!(synced(&writers), [3, 0]);
    append(&mut writers[1], &entry(0)).unwrap();
    journal.sync();
    append(&mut writers[1], &entry(1)).unwrap();
    assert_eq!(synced(&writers), [3, 1]);
}

#[test]
fn a_range_says_how_many_bytes_its_records_take() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..3 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let reader = journal.reader();
    let bytes = |from, events| {
        let range = reader.read(writer.stream(), Sequence(from), events, 1 << 20);
        range.unwrap().bytes
    };
    assert!(bytes(0, 1) > crate::frame::FRAME_BYTES);
    assert_eq!(bytes(0, 3), bytes(0, 1) + bytes(1, 1) + bytes(2, 1));
}

#[test]
fn the_disk_that_a_life_left_taken_is_counted_by_the_next() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..1_200 {
        append(&mut writer, &entry(n)).unwrap();
    }
    drop(writer);
    journal.close().unwrap();
    let left: usize = bench
        .segments()
        .iter()
        .map(|path| bench.disk.bytes(path).len())
        .sum();
    let (journal, _) = bench.open();
    let taken = journal.status().disk_bytes;
    let prepared = bench.options.segment_bytes;
    assert!(taken >= left as u64, "{taken} of {left}");
    assert!(taken <= left as u64 + 2 * prepared, "{taken} of {left}");
}

#[test]
fn a_read_that_fails_for_another_reason_than_the_medium_is_no_damage() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    let reader = journal.reader();
    // The file opens, and then gives nothing.
    (2..=30).for_each(|n| bench.disk.fault_at(n, Fault::Full));
    let read = reader.read(writer.stream(), Sequence(0), 10, 1 << 20);
    assert!(matches!(read, Err(ReadError::Io { .. })), "{read:?}");
    bench.disk.clear_faults();
    assert!(reader.damage().is_clean());
    assert_eq!(read_all(&reader, writer.stream()), (expected(0..1), 0));
}
