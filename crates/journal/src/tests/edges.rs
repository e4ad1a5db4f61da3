//! A fixed run in which every operation fails once in every way, or is the last of its life.
//!
//! `TOLLGATE_JOURNAL_EVERY` is the stride over operations: 1 tries every one of them.

use std::collections::{BTreeMap, BTreeSet};

use super::exhaustive::every;
use super::faults::synced;
use super::*;
use crate::testing::{Fault, PowerCut, mark};

const APPENDS: u64 = 130;

/// What the run was told of one stream.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Every entry that had a sequence given, and when.
    given: BTreeMap<u64, (Entry, u64)>,
    acknowledged: BTreeSet<u64>,
    synced: u64,
    shipped: u64,
}

#[derive(Debug, Default, Clone)]
struct Told {
    streams: BTreeMap<StreamId, Known>,
    acknowledged: usize,
    epoch: u64,
}

impl Told {
    fn append(&mut self, bench: &Bench, writer: &mut Writer, n: u64) -> bool {
        let sequence = writer.next_sequence().0;
        let entry = match n % 10 {
            7 => Entry::Grant(vec![mark(u128::from(n), n), mark(1, sequence)]),
            8 => progress(n),
            _ => entry(n),
        };
        let Ok(room) = writer.reserve(512) else {
            return false;
        };
        let told = writer.append(room, &entry);
        let known = self.streams.entry(writer.stream().clone()).or_default();
        if writer.next_sequence().0 > sequence {
            known.given.insert(sequence, (entry, bench.now().ticks.0));
        }
        if told.is_ok() {
            known.acknowledged.insert(sequence);
            self.acknowledged += 1;
        }
        told.is_ok()
    }

    fn note_synced(&mut self, writers: &[Writer]) {
        for writer in writers {
            let known = self.streams.entry(writer.stream().clone()).or_default();
            known.synced = known.synced.max(synced(writer, writer.next_sequence().0));
        }
    }
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.options.segment_bytes = 16 * 1024;
    bench.options.keep_us = 1_000;
    bench
}

fn ship_and_purge(bench: &Bench, journal: &Journal, told: &mut Told) {
    let reader = journal.reader();
    for info in reader.streams() {
        let next = Sequence(info.next.0.saturating_sub(5));
        reader.shipped(&info.id, next);
        let known = told.streams.entry(info.id).or_default();
        known.shipped = known.shipped.max(next.0);
    }
    bench.clock.advance(2_000);
    journal.purge();
}

/// One life; `false` where the process was killed in it.
fn live(bench: &Bench, told: &mut Told, faulty: bool) -> bool {
    let before = bench.disk.lives();
    let mut opened = bench.try_open(2);
    if opened.is_err() && bench.disk.lives() == before + 1 && faulty {
        // The fault is over: it always starts again.
        opened = Ok(bench.try_open(2).unwrap());
    }
    let life = bench.disk.lives();
    let Ok((journal, recovered)) = opened else {
        return false;
    };
    assert!(recovered.epoch > told.epoch, "an epoch came twice");
    told.epoch = recovered.epoch;
    let mut writers: Vec<Writer> = (0..2).filter_map(|t| journal.writer(t)).collect();
    for n in 0..APPENDS {
        bench.clock.advance(1_000);
        let mut all = true;
        for writer in &mut writers {
            all &= told.append(bench, writer, n);
        }
        if n == APPENDS - 1 && faulty && bench.disk.lives() == life {
            assert!(all, "a passing fault passes");
        }
        if n % 40 == 20 || n == APPENDS - 2 {
            journal.sync();
            told.note_synced(&writers);
        }
        if n % 50 == 30 {
            let positions: Vec<Sequence> = writers.iter().map(Writer::next_sequence).collect();
            let mut shard = shard(bench.now().ticks, 0);
            shard.positions = positions;
            drop(journal.write_checkpoint(bench.now(), &[shard]));
            told.note_synced(&writers);
        }
        if n % 60 == 45 {
            ship_and_purge(bench, &journal, told);
        }
        if bench.disk.lives() != life {
            return false;
        }
    }
    let given: Vec<u64> = writers.iter().map(|w| w.next_sequence().0).collect();
    if journal.close().is_ok() {
        for (writer, given) in writers.iter().zip(given) {
            told.streams
                .entry(writer.stream().clone())
                .or_default()
                .synced = given;
        }
    }
    bench.disk.lives() == life
}

/// Two lives, the second killed at its end; stops where the process is killed.
fn run(bench: &Bench, faulty: bool) -> Told {
    let mut told = Told::default();
    for _ in 0..2 {
        if !live(bench, &mut told, faulty) {
            return told;
        }
    }
    bench.disk.kill();
    told
}

/// Nothing acknowledged (after a power cut: synced) lost, nothing altered, invented or twice; what a
/// power cut took lies in the span that is told; it goes on.
fn check(bench: &Bench, told: &Told, cut: bool, context: &str) {
    bench.disk.clear_faults();
    let (journal, recovered) = bench.try_open(2).unwrap();
    assert!(recovered.epoch > told.epoch, "{context}: epoch");
    if !cut {
        assert!(
            recovered.damage.is_clean(),
            "{context}: {:?}",
            recovered.damage
        );
    }
    let reader = journal.reader();
    for (id, known) in &told.streams {
        let info = reader.streams().into_iter().find(|info| &info.id == id);
        let first = info.map_or(u64::MAX, |info| info.first.0);
        let (entries, _) = read_all(&reader, id);
        let rising = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        assert!(rising, "{context}: twice");
        let mut found = BTreeSet::new();
        for (sequence, entry) in &entries {
            let given = known.given.get(&sequence.0).map(|(entry, _)| entry);
            assert_eq!(given, Some(entry), "{context}: altered or invented");
            found.insert(sequence.0);
        }
        for sequence in &known.acknowledged {
            let deleted = *sequence < first && *sequence < known.shipped;
            if deleted || found.contains(sequence) {
                continue;
            }
            let sure = !cut || *sequence < known.synced;
            assert!(!sure, "{context}: lost {sequence} of {id:?}");
            let span = recovered
                .lost_span
                .unwrap_or_else(|| panic!("{context}: a loss is told"));
            let at = known.given[sequence].1;
            assert!(span.from.0 as u64 <= at, "{context}: lost outside the span");
        }
    }
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(1)).unwrap();
    let fresh = writer.stream().clone();
    bench.disk.kill();
    drop((writer, journal, reader));
    let (journal, _) = bench.try_open(2).unwrap();
    let found = read_all(&journal.reader(), &fresh).0;
    assert_eq!(found, [(Sequence(0), entry(1))], "{context}: it goes on");
    bench.disk.kill();
}

#[test]
fn whatever_operation_fails_once_nothing_is_lost_and_it_goes_on() {
    let clean = bench();
    let told = run(&clean, true);
    let operations = clean.disk.operations() as usize;
    assert!(operations > 500, "{operations}");
    let faults = [
        Fault::Io,
        Fault::Full,
        Fault::Quota,
        Fault::Interrupted,
        Fault::Short(1),
        Fault::Short(100),
        Fault::Torn(40),
        Fault::Torn(512),
    ];
    let mut cases = 0;
    for (place, fault) in faults.into_iter().enumerate() {
        for n in (1 + place..=operations).step_by(every(17)) {
            let bench = bench();
            bench.disk.fault_at(n as u64, fault);
            let found = run(&bench, true);
            let context = format!("{fault:?} at {n}");
            if matches!(fault, Fault::Interrupted | Fault::Short(_)) {
                assert_eq!(found.acknowledged, told.acknowledged, "{context}: noticed");
            }
            check(&bench, &found, false, &context);
            cases += 1;
        }
    }
    println!(
        "figure: journal, {cases} of {} failures (EIO, ENOSPC, EDQUOT, EINTR, short and torn writes) \
         of the {operations} operations of a run, then a kill: 0 acknowledged lost, 0 altered, \
         0 twice, it starts again",
        operations * 8
    );
}

#[test]
fn whatever_operation_fails_once_a_power_cut_takes_nothing_synced() {
    let clean = bench();
    run(&clean, true);
    let operations = clean.disk.operations() as usize;
    let mut cases = 0;
    for (place, fault) in [Fault::Io, Fault::Full, Fault::Torn(100)]
        .into_iter()
        .enumerate()
    {
        for n in (1 + place..=operations).step_by(every(17)) {
            let bench = bench();
            bench.disk.fault_at(n as u64, fault);
            let told = run(&bench, true);
            bench.disk.cut_power(match n % 3 {
                0 => PowerCut::LoseAll,
                _ => PowerCut::Random(n as u64),
            });
            check(
                &bench,
                &told,
                true,
                &format!("{fault:?} at {n}, then a power cut"),
            );
            cases += 1;
        }
    }
    println!(
        "figure: journal, {cases} of {} failures, then a power cut: 0 synced lost, and all that is \
         lost lies in the span that is told",
        operations * 3
    );
}

/// The disk after a kill at the `n`-th operation of the run, and what was told.
fn crashed_at(n: usize) -> (Bench, Told) {
    let bench = bench();
    bench.disk.fault_at(n as u64, Fault::Kill);
    let told = run(&bench, false);
    bench.disk.clear_faults();
    (bench, told)
}

fn on(bench: &Bench, disk: FaultyDisk) -> Bench {
    Bench {
        disk,
        clock: Arc::new(ManualClock::at(bench.now().ticks.0 + 1_000_000)),
        ids: CountingIds::default(),
        options: bench.options.clone(),
    }
}

#[test]
fn crashed_at_every_operation_and_at_every_one_of_the_recovery() {
    let clean = bench();
    run(&clean, false);
    let operations = clean.disk.operations() as usize;
    let (mut crashes, mut again) = (0, 0);
    for n in (1..=operations).step_by(every(31)) {
        let (crashed, told) = crashed_at(n);
        let killed = on(&crashed, crashed.disk.copy());
        check(&killed, &told, false, &format!("killed at {n}"));
        let seeds = (0..8).map(|seed| PowerCut::Random(seed + 10 * n as u64));
        for how in [PowerCut::LoseAll, PowerCut::KeepAll]
            .into_iter()
            .chain(seeds)
        {
            let cut = on(&crashed, crashed.disk.copy());
            cut.disk.cut_power(how);
            check(
                &on(&cut, cut.disk.copy()),
                &told,
                true,
                &format!("{how:?} at {n}"),
            );
            crashes += 1;
            again += recoveries(&cut, &told, n, how);
        }
    }
    println!(
        "figure: journal, {crashes} power cuts at {operations} operations and {again} further crashes \
         in the recovery after them: 0 synced lost, all that is lost lies in the span that is told"
    );
}

/// A second crash at operations of the recovery, as a kill and as a power cut; answers how many.
fn recoveries(cut: &Bench, told: &Told, n: usize, how: PowerCut) -> u64 {
    let mut crashes = 0;
    // Every pair of operations would take hours: each first one meets others of the second.
    let stride = every(11).max(7);
    for m in (1 + n % stride..).step_by(stride) {
        let twice = on(cut, cut.disk.copy());
        twice.disk.fault_at(m as u64, Fault::Kill);
        let before = twice.disk.lives();
        let opened = twice.try_open(2);
        let over = twice.disk.lives() == before + 1;
        // Before it is dropped, which would close it.
        twice.disk.kill();
        drop(opened);
        if over {
            break;
        }
        twice.disk.clear_faults();
        let context = format!("{how:?} at {n}, again at {m}");
        check(&on(&twice, twice.disk.copy()), told, true, &context);
        twice.disk.cut_power(PowerCut::Random(m as u64));
        check(&twice, told, true, &context);
        crashes += 2;
    }
    crashes
}
