//! Kills and power cuts.

use super::*;
use crate::testing::{Fault, PowerCut, mark};
use crate::{CounterChange, SyncMode};

#[test]
fn killing_the_process_loses_nothing_that_was_appended() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..500 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let stream = writer.stream().clone();
    bench.disk.kill();
    drop((writer, journal));
    let (journal, recovered) = bench.open();
    assert!(!recovered.clean && recovered.complete);
    assert!(recovered.damage.is_clean() && recovered.damage.torn.is_empty());
    assert_eq!(recovered.lost_span, None, "the machine went on running");
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..500), 0));
    assert_eq!(recovered.entries.len(), 500);
    assert_eq!(recovered.last_tick, bench.now().ticks);
}

#[test]
fn a_power_cut_loses_at_most_what_was_not_synced_and_the_span_is_told() {
    for seed in 0..200 {
        let bench = Bench::new();
        let (journal, _) = bench.open();
        let mut writer = journal.writer(0).unwrap();
        for n in 0..40 {
            append(&mut writer, &entry(n)).unwrap();
        }
        bench.clock.advance(50_000);
        let synced_at = bench.now();
        journal.sync();
        for n in 40..300 {
            bench.clock.advance(10);
            append(&mut writer, &entry(n)).unwrap();
        }
        let stream = writer.stream().clone();
        bench.disk.cut_power(match seed {
            0 => PowerCut::LoseAll,
            1 => PowerCut::KeepAll,
            seed => PowerCut::Random(seed),
        });
        drop((writer, journal));
        bench.clock.advance(1_000_000);
        let (journal, recovered) = bench.open();
        let span = recovered.lost_span.expect("a power cut is told");
        assert!(
            span.from <= synced_at.wall && span.to == bench.now().wall,
            "seed {seed}"
        );
        let (entries, _) = read_all(&journal.reader(), &stream);
        assert!(
            entries.starts_with(&expected(0..40)),
            "seed {seed}: synced entries are there"
        );
        for (sequence, found) in &entries {
            assert_eq!(found, &entry(sequence.0), "seed {seed}: nothing altered");
        }
        let rising = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        assert!(rising, "seed {seed}: nothing twice");
        if seed == 1 {
            assert_eq!(entries.len(), 300);
        }
        // A start after the next checkpoint finds the same, without a new report.
        bench.checkpoint(&journal, 0).unwrap();
        drop(journal);
        let (journal, again) = bench.open();
        assert_eq!(read_all(&journal.reader(), &stream).0, entries);
        assert_eq!(again.lost_span, None);
    }
}

#[test]
fn a_power_cut_after_one_that_was_told_is_told_too() {
    let bench = Bench::new();
    bench.open().0.close().unwrap();
    for _ in 0..3 {
        let (journal, _) = bench.open();
        bench.checkpoint(&journal, 0).unwrap();
        bench.disk.cut_power(PowerCut::LoseAll);
        drop(journal);
        let (journal, recovered) = bench.open();
        assert!(recovered.lost_span.is_some());
        bench.checkpoint(&journal, 0).unwrap();
        bench.disk.cut_power(PowerCut::LoseAll);
        drop(journal);
        assert!(bench.open().1.lost_span.is_some());
    }
}

#[test]
fn in_durable_mode_a_power_cut_has_no_lost_span() {
    let mut bench = Bench::new();
    bench.options.sync = SyncMode::Durable;
    let (journal, _) = bench.open();
    bench.disk.cut_power(PowerCut::LoseAll);
    drop(journal);
    let (_, recovered) = bench.open();
    assert_eq!(recovered.lost_span, None);
}

#[test]
fn epochs_rise_whatever_happens_to_the_small_files() {
    let bench = Bench::new();
    let mut last = 0;
    let damages: [&[&str]; 6] = [
        &[],
        &["state-a"],
        &["state-b"],
        &["state-a", "state-b"],
        &[
            "state-a",
            "state-b",
            "ledger-a",
            "ledger-b",
            "checkpoint-a",
            "checkpoint-b",
            "node",
        ],
        &[],
    ];
    for (round, files) in damages.into_iter().enumerate() {
        let (journal, recovered) = bench.open();
        assert!(recovered.epoch > last, "round {round}");
        last = recovered.epoch;
        assert_eq!(recovered.fresh, round == 0);
        let mut writer = journal.writer(0).unwrap();
        append(&mut writer, &entry(0)).unwrap();
        bench.checkpoint(&journal, 1).unwrap();
        journal.close().unwrap();
        for name in files {
            let path = bench.file(name);
            let mut bytes = bench.disk.bytes(&path);
            if let Some(byte) = bytes.last_mut() {
                *byte ^= 0x40;
            }
            bench.disk.set_bytes(&path, &bytes);
        }
    }
}

#[test]
fn only_what_a_checkpoint_does_not_cover_is_recovered_from_entries() {
    let bench = Bench::new();
    let (journal, first) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..400 {
        append(&mut writer, &entry(n)).unwrap();
    }
    bench.checkpoint(&journal, 390).unwrap();
    writer.append_grant(&[mark(7, 64)]).unwrap();
    bench.disk.kill();
    drop((writer, journal));

    let (journal, recovered) = bench.open();
    let checkpoint = recovered.checkpoint.expect("a checkpoint");
    assert_eq!(checkpoint.epoch, first.epoch);
    assert_eq!(checkpoint.shards[0].positions, [Sequence(390)]);
    let sequences: Vec<u64> = recovered.entries.iter().map(|e| e.sequence.0).collect();
    assert_eq!(sequences, (390..=400).collect::<Vec<_>>());
    let last = recovered.entries.last().map(|entry| entry.change);
    assert_eq!(last, Some(CounterChange::Mark(mark(7, 64))));
    // A start that dies before its first checkpoint: the next one has both lives' entries.
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    bench.disk.kill();
    drop((writer, journal));
    let (journal, recovered) = bench.open();
    assert_eq!(recovered.entries.len(), 12);
    let last = recovered.entries.last().unwrap();
    assert_eq!((last.epoch, last.sequence), (first.epoch + 1, Sequence(0)));
    // The next checkpoint covers the past.
    bench.checkpoint(&journal, 0).unwrap();
    bench.disk.kill();
    drop(journal);
    let (_, recovered) = bench.open();
    assert!(recovered.entries.is_empty() && recovered.complete);
}

#[test]
fn a_checkpoint_waits_for_the_entries_it_names() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    assert!(matches!(
        bench.checkpoint(&journal, 2),
        Err(JournalError::NotWritten)
    ));
    bench.disk.kill();
    drop((writer, journal));
    assert!(bench.open().1.checkpoint.is_none(), "it was not published");
}

#[test]
fn one_damaged_checkpoint_is_made_good_by_the_other_and_the_journal() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..100 {
        append(&mut writer, &entry(n)).unwrap();
        if n == 49 || n == 79 {
            bench.checkpoint(&journal, n + 1).unwrap();
        }
    }
    bench.disk.kill();
    drop((writer, journal));
    let names = ["checkpoint-a", "checkpoint-b"];
    let good: Vec<Vec<u8>> = names
        .iter()
        .map(|n| bench.disk.bytes(&bench.file(n)))
        .collect();
    for bytes in &good {
        assert!(!bytes.is_empty());
    }
    // "b" is the newer one.
    let mut bad = good[1].clone();
    bad[30] ^= 1;
    bench.disk.set_bytes(&bench.file("checkpoint-b"), &bad);
    let (journal, recovered) = bench.open();
    assert_eq!(recovered.entries.len(), 50);
    assert!(recovered.complete && !recovered.damage.is_clean());
    drop(journal);
    bench.disk.set_bytes(&bench.file("checkpoint-a"), &bad);
    let (_, recovered) = bench.open();
    assert!(recovered.checkpoint.is_none());
    assert_eq!(
        recovered.entries.len(),
        100,
        "the whole history is still there"
    );
    assert!(recovered.complete);
}

#[test]
fn a_checkpoint_that_names_counters_otherwise_is_told_and_not_read() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    bench.checkpoint(&journal, 0).unwrap();
    drop(journal);
    let path = bench.file("checkpoint-a");
    let mut bytes = bench.disk.bytes(&path);
    // The last value of a field holds: number 8, the version, is 1.
    bytes.extend([8 << 3, 1]);
    let length = u32::try_from(bytes.len() - 24).unwrap();
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    let crc = crc32fast::hash(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bench.disk.set_bytes(&path, &bytes);
    bench.disk.set_bytes(&bench.file("checkpoint-b"), &bytes);
    let (_, recovered) = bench.open();
    assert!(recovered.checkpoint.is_none());
    assert!(!recovered.complete && !recovered.damage.is_clean());
}

#[test]
fn open_exchanges_become_interrupted_events_once() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &progress(1)).unwrap();
    append(&mut writer, &progress(2)).unwrap();
    append(&mut writer, &progress(1)).unwrap();
    append(&mut writer, &entry(2)).unwrap();
    bench.disk.kill();
    drop((writer, journal));

    // Also a checkpoint that covers the progress entries remembers them.
    for checkpoint in [false, true] {
        let (journal, recovered) = bench.open();
        let [unfinished] = recovered.unfinished.as_slice() else {
            panic!("one exchange was open: {:?}", recovered.unfinished);
        };
        assert_eq!(unfinished.event.id, event(1, 0).id);
        assert_eq!(unfinished.event.outcome, Outcome::Interrupted);
        assert_eq!(
            (unfinished.charges[0].kept, unfinished.charges[0].reserved),
            (3, 3)
        );
        assert_eq!(
            recovered.entries.len(),
            1,
            "progress entries charge nothing yet"
        );
        if checkpoint {
            bench.checkpoint(&journal, 0).unwrap();
            bench.checkpoint(&journal, 0).unwrap();
        }
        bench.disk.kill();
        drop(journal);
    }
    let (journal, recovered) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let unfinished = recovered.unfinished[0].clone();
    append(&mut writer, &entry_of(unfinished.event, unfinished.charges)).unwrap();
    bench.checkpoint(&journal, 1).unwrap();
    bench.disk.kill();
    drop((writer, journal));
    assert!(bench.open().1.unfinished.is_empty());
}

#[test]
fn a_checkpoint_gives_back_every_counter_with_its_slots() {
    use tollgate_model::{CounterId, CounterKind, CounterState, Per};
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let kinds = [
        CounterKind::Window(Per::Second),
        CounterKind::Window(Per::Day),
        CounterKind::Quota {
            ends_at: Timestamp(9),
        },
    ];
    let counters = (1u64..).zip(kinds).map(|(n, kind)| CounterState {
        counter: CounterId(u128::from(n) << 64 | 5),
        kind,
        settled: n,
        spent: n + 10,
        granted: n + 20,
        began: Ticks(n + 30),
        reserved: n + 40,
        held: n + 50,
        slots: vec![(n + 60, 7), (n + 61, 8)],
    });
    let full = ShardSnapshot {
        counters: counters.collect(),
        lost_at: Ticks(4),
        ..shard(bench.now().ticks, 0)
    };
    journal
        .write_checkpoint(bench.now(), std::slice::from_ref(&full))
        .unwrap();
    drop(journal);
    let (_journal, recovered) = bench.open();
    assert_eq!(recovered.checkpoint.unwrap().shards, [full]);
}

#[test]
fn the_two_checkpoints_that_are_kept_are_the_newest() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut written = Vec::new();
    for _ in 0..5 {
        bench.clock.advance(1_000);
        written.insert(0, bench.now());
        bench.checkpoint(&journal, 0).unwrap();
    }
    let found = crate::inspect(&*bench.disk.view(), Path::new(DIR)).unwrap();
    let found: Vec<_> = found.checkpoints.iter().map(|found| found.at).collect();
    assert_eq!(found, written[..2]);
}

#[test]
fn records_that_a_power_cut_leaves_tell_its_span_from_the_last_sync_on() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    bench.clock.advance(50_000);
    let synced_at = bench.now();
    journal.sync();
    bench.clock.advance(10);
    append(&mut writer, &entry(1)).unwrap();
    bench.disk.cut_power(PowerCut::KeepAll);
    drop((writer, journal));
    let span = bench.open().1.lost_span.unwrap();
    assert_eq!(span.from, synced_at.wall);
}

#[test]
fn a_stream_that_is_not_on_disk_holds_back_what_is_sure_of_all() {
    let mut seen = 0;
    for failing in 1..30 {
        let bench = Bench::new();
        let (journal, _) = bench.try_open(2).unwrap();
        let mut writers = [journal.writer(0).unwrap(), journal.writer(1).unwrap()];
        journal.sync();
        let sure = bench.now();
        bench.clock.advance(1_000);
        for writer in &mut writers {
            append(writer, &entry(0)).unwrap();
        }
        bench.clock.advance(1_000);
        (1..=failing).for_each(|n| bench.disk.fault_at(n, Fault::Io));
        journal.sync();
        bench.disk.clear_faults();
        let reader = journal.reader();
        let synced = [0, 1].map(|n: usize| reader.synced(writers[n].stream()).0);
        if synced != [0, 1] {
            continue;
        }
        seen += 1;
        bench.clock.advance(1_000);
        append(&mut writers[1], &entry(1)).unwrap();
        bench.disk.cut_power(PowerCut::KeepAll);
        drop((writers, journal, reader));
        let span = bench.open().1.lost_span.unwrap();
        assert!(span.from <= sure.wall, "{failing} operations failed");
    }
    assert!(seen > 0, "one stream fails alone");
}

#[test]
fn without_a_checkpoint_nothing_is_complete_once_something_was_deleted() {
    for purged in [false, true] {
        let mut bench = Bench::new();
        bench.options.keep_us = 0;
        let (journal, _) = bench.open();
        let mut writer = journal.writer(0).unwrap();
        for n in 0..900 {
            append(&mut writer, &entry(n)).unwrap();
        }
        journal.reader().shipped(writer.stream(), Sequence(900));
        for _ in 0..2 {
            bench.checkpoint(&journal, 900).unwrap();
        }
        assert!(!purged || journal.purge());
        bench.disk.kill();
        drop((writer, journal));
        for file in ["checkpoint-a", "checkpoint-b"] {
            bench.disk.lose(&bench.file(file));
        }
        assert_eq!(bench.open().1.complete, !purged);
    }
}
