//! Operations that fail.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tollgate_model::Clock;

use super::*;
use crate::testing::{Fault, PowerCut};
use crate::{JournalFull, ReadError};

/// What a small life of a journal was told.
#[derive(Default)]
struct Told {
    stream: Option<StreamId>,
    /// Entries whose append said that the kernel has them.
    acknowledged: Vec<u64>,
    /// Entries that had a sequence given.
    given: u64,
    /// Entries below are on disk.
    synced: u64,
}

/// Opens, appends 300 entries with syncs and a checkpoint between, whatever is answered.
fn live(bench: &Bench, told: &mut Told) {
    let Ok((journal, _)) = bench.try_open(1) else {
        return;
    };
    let mut writer = journal.writer(0).unwrap();
    told.stream = Some(writer.stream().clone());
    for n in 0..300 {
        if let Ok(room) = writer.reserve(512) {
            let sequence = writer.next_sequence().0;
            match writer.append(room, &entry(sequence)) {
                Ok(sequence) => told.acknowledged.push(sequence.0),
                Err(NotWritten::Waiting { .. }) => {}
                Err(other) => panic!("{other}"),
            }
            told.given = writer.next_sequence().0;
        }
        if n % 60 == 30 {
            journal.sync();
            told.synced = synced(&writer, told.given);
        }
        if n == 150 {
            // May be refused; then the one before stays.
            drop(bench.checkpoint(&journal, told.synced));
        }
    }
    bench.disk.kill();
}

/// One beyond the last entry that the journal says is on disk.
pub(super) fn synced(writer: &Writer, given: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let is_synced = |n: u64| {
        let mut future = std::pin::pin!(writer.synced(Sequence(n)));
        runtime.block_on(std::future::poll_fn(|context| {
            std::task::Poll::Ready(future.as_mut().poll(context))
        })) == std::task::Poll::Ready(Ok(()))
    };
    (0..given)
        .rev()
        .find(|n| is_synced(*n))
        .map_or(0, |n| n + 1)
}

fn check(bench: &Bench, told: &Told, sure: impl Fn(u64) -> bool, context: &str) {
    bench.disk.clear_faults();
    bench.disk.set_bytes_max(None);
    let (journal, recovered) = bench.open();
    let Some(stream) = &told.stream else {
        return;
    };
    let (entries, _) = read_all(&journal.reader(), stream);
    for (sequence, found) in &entries {
        assert!(sequence.0 < told.given, "{context}: invented");
        assert_eq!(found, &entry(sequence.0), "{context}: altered");
    }
    let rising = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
    assert!(rising, "{context}: twice");
    let found: std::collections::HashSet<u64> = entries.iter().map(|(s, _)| s.0).collect();
    for sequence in told.acknowledged.iter().filter(|s| sure(**s)) {
        assert!(found.contains(sequence), "{context}: {sequence} is lost");
    }
    let epoch = stream.epoch;
    assert!(recovered.epoch > epoch, "{context}");
}

#[test]
fn whatever_single_operation_fails_nothing_acknowledged_is_lost_by_a_kill() {
    let clean = Bench::new();
    live(&clean, &mut Told::default());
    let operations = clean.disk.operations();
    assert!(operations > 300);
    let faults = [
        Fault::Io,
        Fault::Full,
        Fault::Interrupted,
        Fault::Short(1),
        Fault::Torn(40),
    ];
    for fault in faults {
        for n in 1..=operations {
            let bench = Bench::new();
            bench.disk.fault_at(n, fault);
            let mut told = Told::default();
            live(&bench, &mut told);
            let context = format!("{fault:?} at {n}");
            if fault == Fault::Interrupted || fault == Fault::Short(1) {
                assert_eq!(told.acknowledged.len(), 300, "{context}: nobody noticed");
            }
            check(&bench, &told, |_| true, &context);
        }
    }
}

#[test]
fn whatever_single_operation_fails_nothing_synced_is_lost_by_a_power_cut() {
    let clean = Bench::new();
    live(&clean, &mut Told::default());
    for fault in [Fault::Io, Fault::Full, Fault::Torn(100)] {
        for n in 1..=clean.disk.operations() {
            let bench = Bench::new();
            bench.disk.fault_at(n, fault);
            let mut told = Told::default();
            live(&bench, &mut told);
            bench.disk.cut_power(match n % 3 {
                0 => PowerCut::LoseAll,
                _ => PowerCut::Random(n),
            });
            let synced = told.synced;
            check(&bench, &told, |s| s < synced, &format!("{fault:?} at {n}"));
        }
    }
}

#[test]
fn killed_at_every_operation_nothing_acknowledged_is_lost() {
    let clean = Bench::new();
    live(&clean, &mut Told::default());
    for n in 1..=clean.disk.operations() {
        let bench = Bench::new();
        bench.disk.fault_at(n, Fault::Kill);
        let mut told = Told::default();
        live(&bench, &mut told);
        check(&bench, &told, |_| true, &format!("killed at {n}"));
    }
}

#[test]
fn what_cannot_be_written_waits_and_is_written_when_the_disk_returns() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..10 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let rooms: Vec<_> = (0..5).map(|_| writer.reserve(512).unwrap()).collect();
    bench.disk.fault_always(Some(Fault::Io));
    for (n, room) in rooms.into_iter().enumerate() {
        let sequence = Sequence(10 + n as u64);
        let told = writer.append(room, &entry(sequence.0));
        assert_eq!(told, Err(NotWritten::Waiting { sequence }));
    }
    assert_eq!(writer.reserve(1).err(), Some(JournalFull::Failed));
    assert_eq!(journal.status().full, Some(JournalFull::Failed));
    journal.sync();
    assert_eq!(writer.reserve(1).err(), Some(JournalFull::Failed));
    let reader = journal.reader();
    assert_eq!(read_all(&reader, writer.stream()), (expected(0..10), 0));

    bench.disk.fault_always(None);
    journal.sync();
    append(&mut writer, &entry(15)).unwrap();
    assert_eq!(read_all(&reader, writer.stream()), (expected(0..16), 0));
    let stream = writer.stream().clone();
    journal.close().unwrap();
    let (journal, recovered) = bench.open();
    assert!(recovered.damage.is_clean() && recovered.complete);
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..16), 0));
}

#[test]
fn a_write_error_costs_no_entry_while_the_disk_has_other_segments() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..60 {
        if n % 20 == 10 {
            bench.disk.fault_at(1, Fault::Torn(50));
        }
        append(&mut writer, &entry(n)).unwrap();
        journal.sync();
    }
    let stream = writer.stream().clone();
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..60), 0));
    bench.disk.cut_power(PowerCut::LoseAll);
    drop((writer, journal));
    let (journal, recovered) = bench.open();
    assert!(recovered.damage.is_clean(), "{:?}", recovered.damage);
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..60), 0));
}

#[test]
fn a_failed_sync_is_never_believed_later() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..1_000 {
        append(&mut writer, &entry(n)).unwrap();
    }
    assert!(bench.segments().len() > 2, "several segments are unsynced");
    // The first sync fails and the disk forgets what was dirty; writing anew succeeds.
    bench.disk.fault_at(1, Fault::Io);
    journal.sync();
    assert_eq!(synced(&writer, 1_000), 1_000);
    for n in 1_000..1_010 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let reader = journal.reader();
    assert_eq!(read_all(&reader, writer.stream()), (expected(0..1_010), 0));
    let stream = writer.stream().clone();
    bench.disk.cut_power(PowerCut::LoseAll);
    drop((writer, journal, reader));
    let (journal, recovered) = bench.open();
    assert!(recovered.damage.is_clean(), "{:?}", recovered.damage);
    assert_eq!(
        read_all(&journal.reader(), &stream),
        (expected(0..1_000), 0)
    );
    let totals = journal.reader().totals();
    assert_eq!(
        totals[0].totals.events_sum(),
        1_000,
        "rewritten, not counted twice"
    );
}

#[test]
fn a_disk_that_does_not_sync_fast_enough_refuses_instead_of_growing() {
    let mut bench = Bench::new();
    bench.options.unsynced_bytes_max = 10_000;
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    let mut appended = 0;
    let full = loop {
        match writer.reserve(512) {
            Ok(room) => {
                writer.append(room, &entry(appended)).unwrap();
                appended += 1;
            }
            Err(full) => break full,
        }
    };
    assert_eq!(full, JournalFull::SyncBehind);
    assert!(journal.status().unsynced_bytes < 11_000);
    journal.sync();
    append(&mut writer, &entry(appended)).unwrap();
}

#[test]
fn a_checkpoint_is_refused_while_the_disk_fails_and_the_old_one_stays() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    bench.checkpoint(&journal, 1).unwrap();
    append(&mut writer, &entry(1)).unwrap();
    bench.disk.fault_always(Some(Fault::Io));
    assert!(bench.checkpoint(&journal, 2).is_err());
    bench.disk.kill();
    bench.disk.clear_faults();
    drop((writer, journal));
    let (_, recovered) = bench.open();
    assert_eq!(
        recovered.checkpoint.unwrap().shards[0].positions,
        [Sequence(1)]
    );
    assert_eq!(recovered.entries.len(), 1);
}

#[test]
fn what_waits_for_the_disk_is_counted_as_unsynced_whichever_way_it_waits() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    let one = journal.status().unsynced_bytes;
    assert!(one > 0);
    bench.disk.fault_always(Some(Fault::Io));
    journal.sync();
    assert_eq!(journal.status().unsynced_bytes, one, "its sync failed");
    bench.disk.fault_always(None);
    journal.sync();
    assert_eq!(journal.status().unsynced_bytes, 0);
}

#[test]
fn a_stream_that_cannot_be_written_is_told_at_the_end_though_another_is_whole() {
    let bench = Bench::new();
    let (journal, _) = bench.try_open(2).unwrap();
    let mut writers = [journal.writer(0).unwrap(), journal.writer(1).unwrap()];
    for writer in &mut writers {
        append(writer, &entry(0)).unwrap();
    }
    journal.sync();
    // Room for small files and no segment; both that are there fail.
    let room = writers[0].reserve(512).unwrap();
    bench.disk.set_bytes_max(Some(0));
    bench.disk.fault_always(Some(Fault::Io));
    assert!(writers[0].append(room, &entry(1)).is_err());
    bench.disk.fault_always(None);
    let allocated: u64 = bench.segments().len() as u64 * bench.options.segment_bytes;
    bench.disk.set_bytes_max(Some(allocated + 32 * 1024));
    assert!(matches!(journal.close(), Err(JournalError::NotWritten)));
    let found = crate::inspect(&*bench.disk.mount(), Path::new(DIR)).unwrap();
    assert!(!found.clean);
}

#[test]
fn exchanges_that_began_or_ended_while_the_disk_failed_are_open_or_not_afterwards() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &progress(1)).unwrap();
    let rooms = [(); 2].map(|()| writer.reserve(512).unwrap());
    bench.disk.fault_always(Some(Fault::Io));
    for (room, waits) in rooms.into_iter().zip([entry(1), progress(2)]) {
        assert!(writer.append(room, &waits).is_err());
    }
    bench.disk.fault_always(None);
    journal.sync();
    bench.checkpoint(&journal, 3).unwrap();
    bench.disk.kill();
    drop((writer, journal));
    let (_journal, recovered) = bench.open();
    let open: Vec<_> = recovered
        .unfinished
        .iter()
        .map(|open| &open.event.id)
        .collect();
    assert_eq!(open, [&event(2, 0).id]);
}

#[test]
fn closing_on_a_dead_disk_says_so_and_the_next_start_goes_on() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    let stream = writer.stream().clone();
    bench.disk.fault_always(Some(Fault::Io));
    assert!(journal.close().is_err());
    bench.disk.clear_faults();
    let (journal, recovered) = bench.open();
    assert!(!recovered.clean);
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..1), 0));
    let mut gone = stream;
    gone.epoch = 77;
    let unknown = journal.reader().read(&gone, Sequence(0), 1, 1);
    assert!(matches!(unknown, Err(ReadError::UnknownStream(_))));
}

/// A clock at whose next reading the thread that reads it is held up.
#[derive(Debug)]
struct HeldUp {
    clock: Arc<ManualClock>,
    armed: Mutex<Option<(SyncSender<()>, Receiver<()>)>>,
}

impl Clock for HeldUp {
    fn now(&self) -> Now {
        let now = self.clock.now();
        if let Some((begin, done)) = self.armed.lock().unwrap().take() {
            begin.send(()).unwrap();
            // Whoever must wait for this thread cannot be waited for.
            done.recv_timeout(Duration::from_millis(200)).ok();
        }
        now
    }
}

#[test]
fn a_record_held_up_between_its_tick_and_its_append_is_not_older_than_a_sync_without_it() {
    let bench = Bench::new();
    let clock = Arc::new(HeldUp {
        clock: Arc::clone(&bench.clock),
        armed: Mutex::default(),
    });
    let (fs, options) = (bench.disk.mount(), bench.options.clone());
    let (journal, _) =
        Journal::open_by_hand(fs, options, 1, Arc::clone(&clock) as _, &bench.ids).unwrap();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    let room = writer.reserve(512).unwrap();
    let (begin, begun) = sync_channel(1);
    let (done, finished) = sync_channel(1);
    *clock.armed.lock().unwrap() = Some((begin, finished));
    let at = bench.now().ticks;
    std::thread::scope(|scope| {
        let (clock, journal) = (&bench.clock, &journal);
        scope.spawn(move || {
            begun.recv().unwrap();
            clock.advance(1_000);
            journal.sync();
            // Nobody waits any more where the append had to come first.
            done.send(()).ok();
        });
        writer.append(room, &entry(1)).unwrap();
    });
    let covered = synced(&writer, 2) == 2;
    assert!(
        covered || journal.shared.synced_at() <= at,
        "a power cut would take what is older than the span that is told"
    );
}

#[test]
fn a_repair_that_is_cut_off_anywhere_leaves_every_entry_once() {
    let mut cut_off = 0;
    for n in 2..40 {
        let bench = Bench::new();
        let (journal, _) = bench.open();
        let mut writer = journal.writer(0).unwrap();
        for n in 0..900 {
            if n == 100 {
                journal.sync();
            }
            append(&mut writer, &entry(n)).unwrap();
        }
        let stream = writer.stream().clone();
        let life = bench.disk.lives();
        bench.disk.fault_at(1, Fault::Io);
        bench.disk.fault_at(n, Fault::Kill);
        journal.sync();
        cut_off += u64::from(bench.disk.lives() > life);
        bench.disk.clear_faults();
        bench.disk.kill();
        drop((writer, journal));
        let (journal, recovered) = bench.open();
        assert!(recovered.damage.is_clean(), "{n}: {:?}", recovered.damage);
        assert_eq!(recovered.entries.len(), 900, "cut off at {n}");
        let reader = journal.reader();
        assert_eq!(read_all(&reader, &stream), (expected(0..900), 0), "{n}");
        assert_eq!(reader.totals()[0].totals.events_sum(), 900, "{n}");
    }
    assert!(cut_off > 5, "{cut_off}");
}

#[test]
fn a_repair_that_fails_anywhere_and_is_tried_again_leaves_every_entry_once() {
    for n in 2..40 {
        let bench = Bench::new();
        let (journal, _) = bench.open();
        let mut writer = journal.writer(0).unwrap();
        for n in 0..900 {
            if n == 100 {
                journal.sync();
            }
            append(&mut writer, &entry(n)).unwrap();
        }
        let stream = writer.stream().clone();
        bench.disk.fault_at(1, Fault::Io);
        // The removal of what was written in vain fails too.
        bench.disk.fault_at(n, Fault::Io);
        bench.disk.fault_at(n + 1, Fault::Io);
        bench.disk.fault_at(n + 2, Fault::Io);
        journal.sync();
        bench.disk.clear_faults();
        journal.sync();
        append(&mut writer, &entry(900)).unwrap();
        assert_eq!(synced(&writer, 901), 900, "failed at {n}");
        bench.disk.cut_power(PowerCut::LoseAll);
        drop((writer, journal));
        let (journal, recovered) = bench.open();
        assert!(recovered.damage.is_clean(), "{n}: {:?}", recovered.damage);
        assert_eq!(recovered.entries.len(), 900, "failed at {n}");
        let reader = journal.reader();
        assert_eq!(read_all(&reader, &stream), (expected(0..900), 0), "{n}");
        assert_eq!(reader.totals()[0].totals.events_sum(), 900, "{n}");
    }
}

#[test]
fn a_header_that_cannot_be_written_costs_no_entry_while_another_segment_can_be_had() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    journal.sync();
    bench.disk.fault_at(1, Fault::Io);
    append(&mut writer, &entry(0)).unwrap();
    assert_eq!(
        read_all(&journal.reader(), writer.stream()),
        (expected(0..1), 0)
    );
}

#[test]
fn bytes_that_a_running_sync_covers_count_as_unsynced_beside_those_that_wait() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    let one = journal.status().unsynced_bytes;
    {
        // As while a sync runs.
        let mut inner = crate::shared::lock(&journal.shared.live[0].inner);
        inner.syncing.bytes = vec![0; 1_000];
    }
    assert_eq!(journal.status().unsynced_bytes, one + 1_000);
    crate::shared::lock(&journal.shared.live[0].inner)
        .syncing
        .bytes
        .clear();
}

#[test]
fn an_entry_that_comes_between_the_last_sync_and_the_end_is_not_said_to_be_on_disk() {
    let bench = Bench::new();
    let (journal, _) = bench.try_open(2).unwrap();
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    journal.sync();
    append(&mut writer, &entry(1)).unwrap();
    let whole = [0, 1].map(|n: usize| journal.shared.live[n].seal(&journal.shared));
    assert_eq!(whole, [false, true]);
    assert!(journal.shared.live[0].stream.sealed.get().is_none());
}
