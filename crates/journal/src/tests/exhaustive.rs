//! A segment torn at every byte and flipped at every bit, and the small files likewise.
//!
//! `TOLLGATE_JOURNAL_EVERY` is the stride over bytes and bits: 1 tries every one of them.

use super::*;
use crate::testing::{full_event, mark};
use crate::{DamageKind, inspect, verify};

const SEGMENT_BYTES: u64 = 64 * 1024;

/// The stride of a heavy test.
pub(super) fn every(default: usize) -> usize {
    let text = std::env::var("TOLLGATE_JOURNAL_EVERY").unwrap_or_default();
    text.parse().unwrap_or(default).max(1)
}

#[derive(Debug, Clone, Copy)]
enum Mix {
    /// Events of all outcomes, grants, progress, charges.
    Usual,
    /// Hardly more than headers.
    Tiny,
    /// Every field set, long texts, many charges.
    Large,
}

impl Mix {
    fn entry(self, n: u64) -> Entry {
        let marks = |count: u64| (0..count).map(|c| mark(u128::from(c), n)).collect();
        let (mut full, charges) = full_event();
        full.path = Arc::from(format!("/v1/{n}"));
        match (self, n % 6) {
            (Self::Tiny, even) => Entry::Grant(marks(even % 2)),
            (Self::Large, _) => {
                full.user_agent = Some(Arc::from("u".repeat(900 + n as usize)));
                full.route = Arc::from("r".repeat(1_200));
                entry_of(full, charges.repeat(20))
            }
            (Self::Usual, 3) => progress(n),
            (Self::Usual, 4) => Entry::Grant(marks(3)),
            (Self::Usual, 5) => entry_of(full, charges),
            (Self::Usual, _) => entry(n),
        }
    }
}

/// A killed process that left one segment filled with a mix.
struct Sample {
    bench: Bench,
    stream: StreamId,
    path: PathBuf,
    bytes: Vec<u8>,
    entries: Vec<(Sequence, Entry)>,
    ends: Vec<usize>,
}

impl Sample {
    fn new(mix: Mix) -> Self {
        let mut count = u64::MAX;
        loop {
            let mut bench = Bench::new();
            bench.options.segment_bytes = SEGMENT_BYTES;
            let (journal, _) = bench.open();
            let mut writer = journal.writer(0).unwrap();
            let mut entries = Vec::new();
            while (entries.len() as u64) < count {
                let entry = mix.entry(entries.len() as u64);
                let room = writer.reserve(64).unwrap();
                let sequence = writer.append(room, &entry).unwrap();
                entries.push((sequence, entry));
                let second = bench.segments().get(1).map(|path| bench.disk.bytes(path));
                if second.is_some_and(|bytes| bytes.first() != Some(&0)) {
                    count = entries.len() as u64 - 1;
                }
            }
            if entries.len() as u64 > count {
                continue;
            }
            let stream = writer.stream().clone();
            bench.disk.kill();
            drop((writer, journal));
            let path = bench.segments()[0].clone();
            let bytes = bench.disk.bytes(&path);
            let mut ends = Vec::new();
            let mut at = crate::segment::HEADER_BYTES;
            for _ in &entries {
                at += crate::frame::claimed_bytes(&bytes[at..]).unwrap();
                ends.push(at);
            }
            return Self {
                bench,
                stream,
                path,
                bytes,
                entries,
                ends,
            };
        }
    }

    /// A bench of its own on which the segment has these bytes.
    fn with(&self, bytes: &[u8]) -> Bench {
        let bench = Bench {
            disk: self.bench.disk.copy(),
            clock: Arc::new(ManualClock::at(1_764_000_001_000_000)),
            ids: CountingIds::default(),
            options: self.bench.options.clone(),
        };
        bench.disk.set_bytes(&self.path, bytes);
        bench
    }

    fn check_torn(&self, length: usize) {
        let whole = self.ends.iter().filter(|end| **end <= length).count();
        let bench = self.with(&self.bytes[..length]);
        let (journal, recovered) = bench.open();
        let reader = journal.reader();
        let (found, missing) = read_all(&reader, &self.stream);
        assert!(found == self.entries[..whole], "torn at {length}");
        let clean = recovered.damage.is_clean() && missing == 0;
        assert!(clean, "torn at {length}: {:?}", recovered.damage);
        let boundary = length <= crate::segment::HEADER_BYTES || self.ends.contains(&length);
        let torn = recovered.damage.torn.len();
        assert_eq!(torn, usize::from(!boundary), "torn at {length}");
        let mut writer = journal.writer(0).unwrap();
        append(&mut writer, &entry(0)).unwrap();
        let fresh = writer.stream().clone();
        journal.close().unwrap();
        drop(writer);
        if whole > 0 {
            assert_eq!(bench.disk.bytes(&self.path).len(), self.ends[whole - 1]);
        }
        let (journal, recovered) = bench.open();
        assert!(recovered.damage.is_clean() && recovered.damage.torn.is_empty());
        let reader = journal.reader();
        assert!(read_all(&reader, &self.stream).0 == self.entries[..whole]);
        assert_eq!(read_all(&reader, &fresh).0, expected(0..1));
        bench.disk.kill();
    }

    fn check_flipped(&self, bit: usize) {
        let place = bit / 8;
        let mut bytes = self.bytes.clone();
        bytes[place] ^= 1 << (bit % 8);
        let bench = self.with(&bytes);
        let (journal, recovered) = bench.open();
        let (found, missing) = read_all(&journal.reader(), &self.stream);
        let report = recovered.damage;
        let last = self.ends.len() - 1;
        let hit = self.ends.iter().position(|end| place < *end);
        if place < crate::segment::HEADER_BYTES {
            assert!(found == self.entries, "bit {bit}: only the header is hit");
            assert_eq!(report.spots[0].kind, DamageKind::Header, "bit {bit}");
        } else if let Some(hit) = hit {
            let left = self.entries.iter().filter(|entry| entry.0.0 != hit as u64);
            assert!(left.eq(found.iter()), "bit {bit} in record {hit}");
            if hit == last {
                // Nothing tells it from a torn one.
                assert_eq!((report.torn.len(), missing), (1, 0), "bit {bit}");
            } else {
                let start = if hit == 0 { 512 } else { self.ends[hit - 1] };
                let spot = &report.spots[0];
                let told = (spot.kind, spot.missing, spot.offset, missing);
                assert_eq!(told, (DamageKind::Record, 1, start as u64, 1), "bit {bit}");
                assert!(!recovered.complete, "bit {bit}: history has a hole");
                assert!(
                    bench
                        .disk
                        .bytes(&self.path)
                        .starts_with(&bytes[..self.ends[last]])
                );
            }
        } else {
            assert!(
                found == self.entries && missing == 0,
                "bit {bit} in the zeros"
            );
        }
        bench.disk.kill();
    }
}

/// Runs `check` for every stride-th of `0..count` on two threads; answers for how many.
fn for_each(count: usize, stride: usize, check: impl Fn(usize) + Sync) -> usize {
    std::thread::scope(|scope| {
        for half in 0..2 {
            let check = &check;
            scope.spawn(move || {
                let mine = (half * stride..count).step_by(2 * stride);
                mine.for_each(check);
            });
        }
    });
    count.div_ceil(stride)
}

#[test]
fn torn_at_every_byte_of_a_full_segment_whole_records_stay() {
    for mix in [Mix::Usual, Mix::Tiny, Mix::Large] {
        let sample = Sample::new(mix);
        let used = sample.ends[sample.ends.len() - 1];
        assert!(used > 60_000 - 5_000, "{mix:?} fills the segment: {used}");
        let cases = for_each(used + 1, every(397), |length| sample.check_torn(length));
        println!(
            "figure: journal, 64 KiB segment ({mix:?} records) cut at {cases} of {} bytes: every \
             whole record delivered, nothing altered, it starts again",
            used + 1
        );
    }
}

#[test]
fn flipped_at_every_bit_of_a_full_segment_one_record_is_lost_at_most() {
    for mix in [Mix::Usual, Mix::Tiny, Mix::Large] {
        let sample = Sample::new(mix);
        let bits = sample.bytes.len() * 8;
        // Every bit of one mix takes minutes; the others are sampled even then.
        let stride = match mix {
            Mix::Usual => every(2_503),
            Mix::Tiny | Mix::Large => every(2_503).max(31),
        };
        let cases = for_each(bits, stride, |bit| sample.check_flipped(bit));
        println!(
            "figure: journal, 64 KiB segment ({mix:?} records) with one of {cases} of {bits} bits \
             flipped: at most the record that is hit is missed, and reported; nothing altered"
        );
    }
}

/// Two lives with checkpoints and deleted segments, the second killed.
fn two_lives() -> Bench {
    let mut bench = Bench::new();
    bench.options.segment_bytes = 16 * 1024;
    bench.options.keep_us = 1;
    for life in 0..2 {
        let (journal, _) = bench.open();
        let mut writer = journal.writer(0).unwrap();
        for n in 0..400 {
            append(&mut writer, &entry(n)).unwrap();
        }
        bench.checkpoint(&journal, 300).unwrap();
        bench.checkpoint(&journal, 310 + life).unwrap();
        bench.clock.advance(10);
        journal.reader().shipped(writer.stream(), Sequence(250));
        assert!(journal.purge());
        if life == 0 {
            journal.close().unwrap();
        } else {
            bench.disk.kill();
        }
    }
    bench
}

/// What was recovered, every entry by stream and sequence, and each stream's sums.
type Essence = (
    crate::Recovered,
    Vec<(StreamId, u64, Entry)>,
    Vec<(u64, u64)>,
);

/// What of an opened journal does not depend on which copy of a small file was read.
fn essence(bench: &Bench) -> Essence {
    let (journal, recovered) = bench.open();
    let reader = journal.reader();
    let mut entries = Vec::new();
    for info in reader.streams() {
        let (found, missing) = read_all(&reader, &info.id);
        assert_eq!(missing, 0);
        // What was deleted is not asked for again.
        let found = found.into_iter().filter(|(sequence, _)| sequence.0 >= 250);
        entries.extend(found.map(|(s, entry)| (info.id.clone(), s.0, entry)));
    }
    let sums = reader.totals().into_iter();
    let sums = sums.map(|t| (t.totals.events_sum(), t.totals.units_sum()));
    let sums = sums.filter(|sum| sum.0 > 0).collect();
    bench.disk.kill();
    (recovered, entries, sums)
}

#[test]
fn no_small_file_is_believed_with_any_bit_flipped_or_cut_at_any_byte() {
    let bench = two_lives();
    let again = |disk: FaultyDisk| Bench {
        disk,
        clock: Arc::new(ManualClock::at(1_764_000_001_000_000)),
        ids: CountingIds::default(),
        options: bench.options.clone(),
    };
    let (good, entries, sums) = essence(&again(bench.disk.copy()));
    assert!(good.damage.is_clean() && good.complete && !entries.is_empty());
    let mut files = bench.disk.files();
    files.retain(|path| path.extension().is_none());
    assert_eq!(files.len(), 7, "{files:?}");
    let mut cases = 0;
    for path in files {
        let bytes = bench.disk.bytes(&path);
        cases += for_each(bytes.len() * 9, every(29), |case| {
            let mut bad = bytes.clone();
            match case.checked_sub(bytes.len() * 8) {
                Some(length) => bad.truncate(length),
                None => bad[case / 8] ^= 1 << (case % 8),
            }
            let bench = again(bench.disk.copy());
            bench.disk.set_bytes(&path, &bad);
            let context = format!("{} case {case}", path.display());
            let seen = inspect(&*bench.disk.mount(), Path::new(DIR)).unwrap();
            assert!(!seen.damage.is_clean(), "{context}: inspect tells");
            let (found, found_entries, found_sums) = essence(&bench);
            let kinds: Vec<DamageKind> = found.damage.spots.iter().map(|s| s.kind).collect();
            assert_eq!(kinds, [DamageKind::SmallFile], "{context}");
            assert_eq!(found.node, good.node, "{context}");
            assert!(found.epoch >= good.epoch && !found.clean, "{context}");
            assert!(found_entries == entries, "{context}: entries");
            assert_eq!(found_sums, sums, "{context}");
            assert!(found.complete, "{context}");
            let position = found.checkpoint.map(|c| c.shards[0].positions[0].0);
            let first = found.entries.iter().find(|e| e.epoch == good.epoch - 1);
            assert_eq!(position, first.map(|e| e.sequence.0), "{context}");
        });
    }
    println!(
        "figure: journal, {cases} flipped bits and cuts of its 7 small files: each noticed, and \
         nothing of what was recovered changed"
    );
}

#[test]
fn verify_tells_an_operator_of_every_kind_of_damage() {
    let look = |damage: &dyn Fn(&Bench)| {
        let bench = two_lives();
        damage(&bench);
        let found = verify(&*bench.disk.mount(), Path::new(DIR)).unwrap();
        let spots = found.damage.spots.iter();
        spots.map(|s| (s.kind, s.missing > 0)).collect::<Vec<_>>()
    };
    let flip = |bench: &Bench, path: &Path, at: usize| {
        let mut bytes = bench.disk.bytes(path);
        bytes[at] ^= 4;
        bench.disk.set_bytes(path, &bytes);
    };
    assert!(look(&|_| {}).is_empty());
    let header = look(&|bench| flip(bench, &bench.segments()[0], 20));
    assert_eq!(header, [(DamageKind::Header, false)]);
    let record = look(&|bench| flip(bench, &bench.segments()[0], 700));
    assert_eq!(record, [(DamageKind::Record, true)]);
    let state = look(&|bench| flip(bench, &bench.file("state-a"), 20));
    assert_eq!(state, [(DamageKind::SmallFile, false)]);
    let front = look(&|bench| bench.disk.lose(&bench.segments()[0]));
    assert_eq!(front, [(DamageKind::Missing, true)]);
    let all = look(&|bench| {
        let epoch = bench.segments()[0].file_name().unwrap().to_str().unwrap()[..10].to_owned();
        for path in bench.segments() {
            if path.to_string_lossy().contains(&format!("/{epoch}-")) {
                bench.disk.lose(&path);
            }
        }
    });
    assert_eq!(all, [(DamageKind::Missing, true)]);
}
