//! The promises of the crate's header, on a disk that fails in every way.

mod basics;
mod beside;
mod crashes;
mod damage;
mod edges;
mod exhaustive;
mod faults;
mod folder;
mod known;
mod model;
mod past;
mod real;
mod retention;
mod scanned;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tollgate_model::{
    Charge, Now, Outcome, Sequence, ShardSnapshot, StreamId, Ticks, Timestamp, UsageEvent,
};

use crate::testing::{CountingIds, FaultyDisk, ManualClock, charge, event};
use crate::{Entry, Journal, JournalError, JournalOptions, NotWritten, Reader, Recovered, Writer};

const DIR: &str = "/journal";

/// A disk, a clock, and options for small segments.
struct Bench {
    disk: FaultyDisk,
    clock: Arc<ManualClock>,
    ids: CountingIds,
    options: JournalOptions,
}

impl Bench {
    fn new() -> Self {
        Self {
            disk: FaultyDisk::default(),
            clock: Arc::new(ManualClock::at(1_764_000_000_000_000)),
            ids: CountingIds::default(),
            options: JournalOptions {
                segment_bytes: 64 * 1024,
                disk_bytes_max: 4 << 20,
                ..JournalOptions::new(DIR)
            },
        }
    }

    fn try_open(&self, threads: u16) -> Result<(Journal, Recovered), JournalError> {
        let clock = Arc::clone(&self.clock);
        let options = self.options.clone();
        Journal::open_by_hand(self.disk.mount(), options, threads, clock, &self.ids)
    }

    fn open(&self) -> (Journal, Recovered) {
        self.try_open(1).unwrap()
    }

    /// Segment files, in order.
    fn segments(&self) -> Vec<PathBuf> {
        let mut files = self.disk.files();
        files.retain(|path| path.extension().is_some_and(|end| end == "seg"));
        files
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(DIR).join(name)
    }

    fn checkpoint(&self, journal: &Journal, position: u64) -> Result<(), JournalError> {
        journal.write_checkpoint(self.now(), &[shard(self.now().ticks, position)])
    }

    fn now(&self) -> Now {
        use tollgate_model::Clock;
        self.clock.now()
    }
}

fn shard(at: Ticks, position: u64) -> ShardSnapshot {
    ShardSnapshot {
        shard: 0,
        round: 1,
        at,
        positions: vec![Sequence(position)],
        lost_at: Ticks(0),
        closed_before: Timestamp(7),
        counters: Vec::new(),
    }
}

fn entry(number: u64) -> Entry {
    Entry::Event {
        event: event(number, number % 5),
        charges: vec![charge(u128::from(number % 3), number % 5)],
    }
}

fn entry_of(event: UsageEvent, charges: Vec<Charge>) -> Entry {
    Entry::Event { event, charges }
}

fn progress(number: u64) -> Entry {
    let mut event = event(number, 3);
    event.outcome = Outcome::Forwarded;
    Entry::Progress {
        event,
        charges: vec![Charge {
            kept: 0,
            ..charge(9, 3)
        }],
    }
}

fn append(writer: &mut Writer, entry: &Entry) -> Result<Sequence, NotWritten> {
    let room = writer.reserve(512).unwrap();
    writer.append(room, entry)
}

/// Everything that can be read of a stream, and how many entries cannot.
fn read_all(reader: &Reader, stream: &StreamId) -> (Vec<(Sequence, Entry)>, u64) {
    let known = reader.streams().into_iter().find(|info| &info.id == stream);
    let Some(info) = known else {
        return (Vec::new(), 0);
    };
    let mut from = info.first;
    let mut entries = Vec::new();
    let mut missing = 0;
    while from < info.next {
        let range = reader.read(stream, from, 7, 4096).unwrap();
        assert!(range.next > from, "a read makes progress");
        entries.extend(range.entries);
        missing += range.missing;
        from = range.next;
    }
    (entries, missing)
}

fn expected(numbers: std::ops::Range<u64>) -> Vec<(Sequence, Entry)> {
    numbers.map(|n| (Sequence(n), entry(n))).collect()
}
