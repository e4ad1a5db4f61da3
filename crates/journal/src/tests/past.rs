//! A folder that is not the one that was used last, and a clock that was set while nothing ran.

use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_model::{Clock, NodeId};

use super::*;
use crate::testing::mark;

type Marks = Vec<(StreamId, Sequence)>;

/// Opens, writes so many entries, ships and stops; answers how far the platform is then.
fn live(bench: &Bench, entries: u64, marks: &mut Marks) -> Recovered {
    let options = JournalOptions {
        platform_marks: Some(marks.clone()),
        ..bench.options.clone()
    };
    let clock = Arc::clone(&bench.clock);
    let disk = bench.disk.mount();
    let (journal, recovered) = Journal::open_by_hand(disk, options, 1, clock, &bench.ids).unwrap();
    bench.checkpoint(&journal, 0).unwrap();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..entries {
        append(&mut writer, &entry(n)).unwrap();
    }
    journal.sync();
    let stream = writer.stream().clone();
    journal.reader().shipped(&stream, Sequence(entries));
    if entries > 0 {
        marks.push((stream, Sequence(entries)));
    }
    journal.close().unwrap();
    recovered
}

fn other(bench: &Bench, disk: FaultyDisk) -> Bench {
    Bench {
        disk,
        clock: Arc::clone(&bench.clock),
        ids: CountingIds::default(),
        options: bench.options.clone(),
    }
}

#[test]
fn a_folder_that_was_used_last_is_never_taken_for_another() {
    let bench = Bench::new();
    let mut marks = Marks::new();
    for entries in [0, 5, 700, 0, 3] {
        let recovered = live(&bench, entries, &mut marks);
        assert!(recovered.complete, "{entries}");
    }
    // Of other gateways on the same platform nothing is expected here.
    let elsewhere = StreamId {
        node: NodeId::new("elsewhere"),
        epoch: u64::from(u32::MAX),
        thread: 0,
    };
    marks.push((elsewhere, Sequence(9)));
    let recovered = live(&bench, 1, &mut marks);
    assert!(recovered.complete && recovered.epoch < u64::from(u32::MAX));
}

#[test]
fn an_older_copy_put_back_forgets_nothing_silently_and_begins_above_all_lives() {
    let bench = Bench::new();
    let mut marks = Marks::new();
    live(&bench, 10, &mut marks);
    let copy = bench.disk.copy();
    let lost = live(&bench, 10, &mut marks).epoch;
    let again = other(&bench, copy);
    let recovered = live(&again, 10, &mut marks);
    assert!(!recovered.complete && recovered.epoch > lost);
    assert!(live(&again, 0, &mut marks).complete, "told once");
}

#[test]
fn a_copy_made_within_a_life_is_noticed_by_that_lifes_own_entries() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    bench.checkpoint(&journal, 0).unwrap();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    journal.sync();
    let again = other(&bench, bench.disk.copy());
    append(&mut writer, &entry(1)).unwrap();
    journal.sync();
    for (taken_in, complete) in [(1, true), (2, false)] {
        let mut marks = vec![(writer.stream().clone(), Sequence(taken_in))];
        let copy = other(&bench, again.disk.copy());
        assert_eq!(live(&copy, 0, &mut marks).complete, complete);
    }
}

#[test]
fn a_new_folder_beside_an_old_platform_counts_as_a_lost_past() {
    let bench = Bench::new();
    let mut marks = Marks::new();
    assert!(
        live(&bench, 10, &mut marks).complete,
        "nothing was ever used"
    );
    let lost = marks.iter().map(|(stream, _)| stream.epoch).max();
    let recovered = live(&other(&bench, FaultyDisk::default()), 1, &mut marks);
    assert!(recovered.fresh && !recovered.complete);
    assert!(Some(recovered.epoch) > lost);
}

#[test]
fn a_lost_past_is_told_until_a_checkpoint_holds_it() {
    let bench = Bench::new();
    let mut marks = Marks::new();
    live(&bench, 10, &mut marks);
    let again = other(&bench, FaultyDisk::default());
    let options = JournalOptions {
        platform_marks: Some(marks.clone()),
        ..again.options.clone()
    };
    let open = || {
        let clock = Arc::clone(&again.clock);
        let disk = again.disk.mount();
        Journal::open_by_hand(disk, options.clone(), 1, clock, &again.ids).unwrap()
    };
    for _ in 0..3 {
        let (journal, recovered) = open();
        assert!(!recovered.complete, "the start before died over it");
        append(&mut journal.writer(0).unwrap(), &entry(1)).unwrap();
        again.disk.kill();
    }
    let (journal, _) = open();
    again.checkpoint(&journal, 0).unwrap();
    again.disk.kill();
    assert!(open().1.complete);
}

#[test]
fn a_platform_that_knows_less_than_it_confirmed_harms_no_counter() {
    let bench = Bench::new();
    live(&bench, 10, &mut Marks::new());
    assert!(live(&bench, 10, &mut Marks::new()).complete);
}

/// A machine's clock: ticks begin at wall time and can be tied to the machine's start.
struct MachineClock {
    wall_us: AtomicU64,
    ticks_us: AtomicU64,
    uptime_us: AtomicU64,
}

impl Clock for MachineClock {
    fn now(&self) -> Now {
        let wall_us = self.wall_us.load(Ordering::Relaxed);
        Now {
            wall: Timestamp(i64::try_from(wall_us).unwrap_or(i64::MAX)),
            ticks: Ticks(self.ticks_us.load(Ordering::Relaxed)),
        }
    }

    fn raise_to(&self, tick: Ticks) {
        self.ticks_us.fetch_max(tick.0, Ordering::Relaxed);
    }

    fn ticks_at_boot(&self) -> Option<Ticks> {
        let uptime_us = self.uptime_us.load(Ordering::Relaxed);
        let ticks_us = self.ticks_us.load(Ordering::Relaxed);
        Some(Ticks(ticks_us.saturating_sub(uptime_us)))
    }

    fn continue_boot(&self, ticks_at_boot: Ticks) {
        let ticks_us = ticks_at_boot.0 + self.uptime_us.load(Ordering::Relaxed);
        self.ticks_us.store(ticks_us, Ordering::Relaxed);
    }
}

#[test]
fn ticks_go_on_by_uptime_within_a_run_of_the_machine_however_the_wall_clock_was_set() {
    const SECOND: u64 = 1_000_000;
    let start = |disk: &FaultyDisk, wall_us: u64, uptime_us: u64| {
        let clock = Arc::new(MachineClock {
            wall_us: AtomicU64::new(wall_us),
            ticks_us: AtomicU64::new(wall_us),
            uptime_us: AtomicU64::new(uptime_us),
        });
        let options = JournalOptions::new(DIR);
        let ids = CountingIds::default();
        let opened = Journal::open_by_hand(disk.mount(), options, 1, clock.clone(), &ids);
        let (journal, _) = opened.unwrap();
        let mut writer = journal.writer(0).unwrap();
        writer.append_grant(&[mark(1, 1)]).unwrap();
        journal.sync();
        clock.now().ticks.0
    };
    let disk = FaultyDisk::default();
    let at = 1_764_000_000 * SECOND;
    assert_eq!(start(&disk, at, 100 * SECOND), at);
    for (step_us, passed_s) in [(-86_400, 3), (86_400, 5), (0, 7)] {
        disk.kill();
        let wall_us = at.saturating_add_signed(step_us * 1_000_000);
        let ticks = start(&disk, wall_us, (100 + passed_s) * SECOND);
        assert_eq!(ticks, at + passed_s * SECOND);
    }
    // After the machine was started anew wall time is all there is, never below what was.
    disk.cut_power(crate::testing::PowerCut::KeepAll);
    assert!(start(&disk, at - 3_600 * SECOND, SECOND) >= at);
    disk.cut_power(crate::testing::PowerCut::KeepAll);
    let later = at + 3_600 * SECOND;
    assert_eq!(start(&disk, later, SECOND), later);
}
