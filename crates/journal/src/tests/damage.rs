//! Bytes that changed behind the journal's back.

use super::*;
use crate::{DamageKind, verify};

/// A small stream, its process killed; the one segment's path and used bytes.
pub(super) fn small_stream(bench: &Bench, entries: u64) -> (StreamId, PathBuf, Vec<u8>) {
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..entries {
        append(&mut writer, &entry(n)).unwrap();
    }
    let stream = writer.stream().clone();
    bench.disk.kill();
    drop((writer, journal));
    let path = bench.segments()[0].clone();
    let bytes = bench.disk.bytes(&path);
    (stream, path, bytes)
}

fn used(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// Entries in `found` are those appended, rising, none twice.
fn check_unaltered(found: &[(Sequence, Entry)], context: &str) {
    for (sequence, found) in found {
        assert_eq!(found, &entry(sequence.0), "{context}: altered");
    }
    let rising = found.windows(2).all(|pair| pair[0].0 < pair[1].0);
    assert!(rising, "{context}: twice");
}

#[test]
fn torn_at_every_byte_whole_records_stay_and_the_rest_is_cut() {
    let sample = Bench::new();
    let (_, _, bytes) = small_stream(&sample, 6);
    let ends = record_ends(&bytes, 6);
    for length in 0..used(&bytes) {
        let bench = Bench::new();
        let (stream, path, _) = small_stream(&bench, 6);
        // The rest of the allocated file reads as zeros.
        let mut torn = bytes.clone();
        torn[length..].fill(0);
        bench.disk.set_bytes(&path, &torn);
        let whole = ends.iter().filter(|end| **end <= length).count() as u64;
        let (journal, recovered) = bench.open();
        let (entries, _) = read_all(&journal.reader(), &stream);
        assert_eq!(entries, expected(0..whole), "torn at {length}");
        let at_end = length <= crate::segment::HEADER_BYTES || ends.contains(&length);
        // A header cut off in its trailing zeros is whole.
        if !at_end {
            assert_eq!(recovered.damage.torn.len(), 1, "torn at {length}");
            let told = &recovered.damage.torn[0];
            let starts = [&[crate::segment::HEADER_BYTES], &ends[..]].concat();
            let start = starts[whole as usize];
            let place = (told.offset as usize, told.bytes as usize);
            assert_eq!(place, (start, used(&torn) - start), "torn at {length}");
            assert!(
                recovered.damage.is_clean(),
                "a torn tail is no damage: {length}"
            );
        }
        journal.close().unwrap();
        if whole > 0 {
            assert_eq!(bench.disk.bytes(&path).len(), ends[whole as usize - 1]);
        }
        let after = verify(&*bench.disk.mount(), Path::new(DIR)).unwrap();
        assert!(
            after.damage.is_clean(),
            "torn at {length}: {:?}",
            after.damage
        );
    }
}

/// Where each record ends.
pub(super) fn record_ends(bytes: &[u8], entries: usize) -> Vec<usize> {
    let mut at = crate::segment::HEADER_BYTES;
    (0..entries)
        .map(|_| {
            at += crate::frame::claimed_bytes(&bytes[at..]).unwrap();
            at
        })
        .collect()
}

#[test]
fn a_flipped_bit_anywhere_costs_one_entry_at_most_and_is_reported() {
    let sample = Bench::new();
    let (_, _, bytes) = small_stream(&sample, 5);
    let ends = record_ends(&bytes, 5);
    for place in 0..used(&bytes) {
        let bench = Bench::new();
        let (stream, path, _) = small_stream(&bench, 5);
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (place % 8);
        bench.disk.set_bytes(&path, &flipped);
        let (journal, recovered) = bench.open();
        let (entries, missing) = read_all(&journal.reader(), &stream);
        check_unaltered(&entries, &format!("flip at {place}"));
        let report = recovered.damage;
        if place < crate::segment::HEADER_BYTES {
            assert_eq!(
                entries,
                expected(0..5),
                "flip at {place}: only the header is hit"
            );
            assert_eq!(report.spots[0].kind, DamageKind::Header);
            assert!(recovered.complete, "flip at {place}: nothing is missing");
            continue;
        }
        let hit = ends.iter().position(|end| place < *end).unwrap() as u64;
        let left: Vec<_> = expected(0..5)
            .into_iter()
            .filter(|e| e.0.0 != hit)
            .collect();
        assert_eq!(entries, left, "flip at {place}");
        if hit == 4 {
            // The last record cannot be told from a torn one after a kill.
            assert_eq!((report.torn.len(), missing), (1, 0), "flip at {place}");
        } else {
            assert_eq!(missing, 1, "flip at {place}");
            let spot = &report.spots[0];
            assert_eq!((spot.kind, spot.missing), (DamageKind::Record, 1));
            let start = if hit == 0 {
                512
            } else {
                ends[hit as usize - 1]
            };
            assert_eq!(spot.offset, start as u64, "flip at {place}");
            assert_eq!(spot.bytes, (ends[hit as usize] - start) as u64);
            assert!(!recovered.complete, "history has a hole");
        }
    }
}

#[test]
fn after_a_clean_stop_even_the_last_record_is_missed() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..5 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let stream = writer.stream().clone();
    journal.close().unwrap();
    let path = bench.segments()[0].clone();
    let mut bytes = bench.disk.bytes(&path);
    *bytes.last_mut().unwrap() ^= 4;
    bench.disk.set_bytes(&path, &bytes);
    let found = verify(&*bench.disk.mount(), Path::new(DIR)).unwrap();
    assert_eq!(found.damage.missing, 1);
    let (journal, recovered) = bench.open();
    assert_eq!((recovered.damage.missing, recovered.complete), (1, false));
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..4), 1));
    assert_eq!(
        bench.disk.bytes(&path),
        bytes,
        "damaged bytes are left for inspection"
    );
}

#[test]
fn blocks_that_the_disk_refuses_are_skipped_and_left_alone() {
    let bench = Bench::new();
    let (stream, path, bytes) = small_stream(&bench, 100);
    bench.disk.spoil(&path, 4_096, 8_192);
    let (journal, recovered) = bench.open();
    let (entries, missing) = read_all(&journal.reader(), &stream);
    let mut starts = record_ends(&bytes, 100);
    starts.insert(0, crate::segment::HEADER_BYTES);
    let readable = |(n, place): (usize, &[usize])| {
        (place[1] <= 4_096 || place[0] >= 8_192).then_some(n as u64)
    };
    let readable: Vec<u64> = starts.windows(2).enumerate().filter_map(readable).collect();
    let left: Vec<_> = readable.iter().map(|n| (Sequence(*n), entry(*n))).collect();
    assert_eq!(entries, left, "what lies beside bad blocks is read");
    assert_eq!(missing, 100 - left.len() as u64);
    assert_eq!(recovered.damage.missing, missing);
    assert_eq!(bench.disk.bytes(&path), bytes, "nothing was cut");
}

#[test]
fn a_missing_segment_is_reported_and_what_is_behind_it_delivered() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..2_000 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let stream = writer.stream().clone();
    bench.disk.kill();
    drop((writer, journal));
    let segments = bench.segments();
    assert!(segments.len() >= 4);
    bench.disk.lose(&segments[1]);
    let (journal, recovered) = bench.open();
    let (entries, missing) = read_all(&journal.reader(), &stream);
    check_unaltered(&entries, "missing segment");
    assert_eq!(entries.len() as u64 + missing, 2_000);
    assert!(missing > 0 && recovered.damage.missing == missing && !recovered.complete);
    drop(journal);
    bench.disk.lose(&segments[0]);
    let (journal, recovered) = bench.open();
    assert!(recovered.damage.missing > missing);
    let (entries, missing) = read_all(&journal.reader(), &stream);
    check_unaltered(&entries, "no front");
    assert_eq!(entries.len() as u64 + missing, 2_000);
}

#[test]
fn bytes_of_another_stream_are_no_records_of_this_one() {
    let bench = Bench::new();
    let (_, path, bytes) = small_stream(&bench, 5);
    let mut other = path.file_name().unwrap().to_str().unwrap().to_owned();
    let epoch: u64 = other[..10].parse().unwrap();
    other.replace_range(..10, &format!("{:010}", epoch + 9));
    bench.disk.set_bytes(&bench.file(&other), &bytes);
    let (journal, recovered) = bench.open();
    assert_eq!(recovered.epoch, epoch + 10);
    assert_eq!(recovered.damage.spots.len(), 1);
    let streams = journal.reader().streams();
    let epochs: Vec<u64> = streams.iter().map(|stream| stream.id.epoch).collect();
    assert_eq!(epochs, [epoch, epoch + 10], "the stranger is no stream");
}

#[test]
fn garbage_in_any_file_never_keeps_the_journal_from_opening() {
    for seed in 0..300u64 {
        let bench = Bench::new();
        let (stream, ..) = small_stream(&bench, 50);
        let (journal, _) = bench.open();
        bench.checkpoint(&journal, 0).unwrap();
        journal.close().unwrap();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below.max(1) as u64) as usize
        };
        for path in bench.disk.files() {
            let mut bytes = bench.disk.bytes(&path);
            let start = random(bytes.len());
            let end = (start + random(200)).min(bytes.len());
            for byte in &mut bytes[start..end] {
                *byte = random(256) as u8;
            }
            bench.disk.set_bytes(&path, &bytes);
        }
        let found = verify(&*bench.disk.mount(), Path::new(DIR)).unwrap();
        let (journal, recovered) = bench.open();
        assert!(recovered.epoch > 2);
        let reader = journal.reader();
        for info in reader.streams() {
            check_unaltered(&read_all(&reader, &info.id).0, &format!("seed {seed}"));
        }
        let (entries, _) = read_all(&reader, &stream);
        assert!(entries.len() >= 40 || !found.damage.is_clean() || !found.damage.torn.is_empty());
    }
}

fn flip(bench: &Bench, path: &Path, place: usize) {
    let mut bytes = bench.disk.bytes(path);
    bytes[place] ^= 1;
    bench.disk.set_bytes(path, &bytes);
}

#[test]
fn a_damaged_header_costs_no_entry_even_where_the_end_is_torn_or_unreadable() {
    for unreadable in [false, true] {
        let bench = Bench::new();
        let (stream, path, bytes) = small_stream(&bench, 100);
        let ends = record_ends(&bytes, 100);
        flip(&bench, &path, 20);
        let (from, whole) = if unreadable {
            (8_192, ends.iter().filter(|end| **end <= 8_192).count())
        } else {
            (ends[98] + 9, 99)
        };
        if unreadable {
            bench.disk.spoil(&path, from as u64, u64::MAX);
        } else {
            let mut torn = bench.disk.bytes(&path);
            torn[from..].fill(0);
            bench.disk.set_bytes(&path, &torn);
        }
        let (journal, recovered) = bench.open();
        assert_eq!(recovered.damage.spots[0].kind, DamageKind::Header);
        let (entries, missing) = read_all(&journal.reader(), &stream);
        assert_eq!((entries, missing), (expected(0..whole as u64), 0));
    }
}

#[test]
fn a_segment_without_a_header_that_cannot_be_read_is_kept_and_not_taken_for_unused() {
    let bench = Bench::new();
    let (stream, path, mut bytes) = small_stream(&bench, 50);
    let header = crate::segment::HEADER_BYTES;
    bytes[..header].fill(0);
    bench.disk.set_bytes(&path, &bytes);
    bench.disk.spoil(&path, header as u64, u64::MAX);
    let (journal, recovered) = bench.open();
    assert!(!recovered.complete);
    let [spot] = recovered.damage.spots.as_slice() else {
        panic!("{:?}", recovered.damage);
    };
    assert_eq!((spot.kind, spot.missing), (DamageKind::Header, 0));
    bench.disk.kill();
    drop(journal);
    assert_eq!(bench.disk.bytes(&path), bytes, "it stays as it was");
    bench.disk.spoil(&path, 0, 0);
    let (journal, _) = bench.open();
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..50), 0));
}

#[test]
fn what_another_version_wrote_is_counted_as_missing_and_said_to_be_unknown() {
    let bench = Bench::new();
    let (stream, path, mut bytes) = small_stream(&bench, 4);
    let ends = record_ends(&bytes, 4);
    let salt = crate::frame::salt_of(stream.epoch, stream.thread);
    for n in [1, 2] {
        let record = &mut bytes[ends[n - 1]..ends[n]];
        let kind = crate::frame::Kind::Unknown;
        crate::frame::finish(record, salt, kind, n as u64, Ticks(1), Ticks(1));
    }
    bench.disk.set_bytes(&path, &bytes);
    let (journal, _) = bench.open();
    let reader = journal.reader();
    let range = reader.read(&stream, Sequence(0), 10, 1 << 20).unwrap();
    let numbers: Vec<u64> = range
        .entries
        .iter()
        .map(|(sequence, _)| sequence.0)
        .collect();
    assert_eq!((numbers, range.missing), (vec![0, 3], 2));
    let unknown: Vec<_> = reader.damage().spots;
    let places: Vec<_> = unknown
        .iter()
        .map(|spot| {
            (
                spot.offset as usize,
                spot.bytes as usize,
                spot.missing,
                spot.kind,
            )
        })
        .collect();
    let place = |n: usize| (ends[n - 1], ends[n] - ends[n - 1], 1, DamageKind::Unknown);
    assert_eq!(places, [place(1), place(2)]);
}

#[test]
fn damage_beside_a_range_is_not_told_by_it_and_in_full_by_the_one_it_lies_in() {
    for first in [3, 4] {
        let bench = Bench::new();
        let (journal, _) = bench.open();
        let mut writer = journal.writer(0).unwrap();
        for n in 0..8 {
            append(&mut writer, &entry(n)).unwrap();
        }
        let path = bench.segments()[0].clone();
        let ends = record_ends(&bench.disk.bytes(&path), 8);
        flip(&bench, &path, ends[2] - 1);
        let reader = journal.reader();
        let read = |from, events| {
            let range = reader.read(writer.stream(), Sequence(from), events, 1 << 20);
            let range = range.unwrap();
            (range.entries, range.missing)
        };
        assert_eq!(read(first, 10), (expected(first..8), 0));
        assert!(reader.damage().is_clean(), "it lies before the range");
        assert_eq!(read(0, 3).1, 1);
        let [spot] = &reader.damage().spots[..] else {
            panic!("{:?}", reader.damage());
        };
        assert_eq!(
            (spot.offset, spot.bytes),
            (ends[1] as u64, (ends[2] - ends[1]) as u64)
        );
        assert_eq!((spot.missing, spot.kind), (1, DamageKind::Record));
    }
}

#[test]
fn an_end_that_went_while_the_journal_runs_is_missing_and_no_damaged_record() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..8 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let path = bench.segments()[0].clone();
    let mut bytes = bench.disk.bytes(&path);
    let ends = record_ends(&bytes, 8);
    bytes[ends[4]..].fill(0);
    bench.disk.set_bytes(&path, &bytes);
    let reader = journal.reader();
    assert_eq!(read_all(&reader, writer.stream()), (expected(0..5), 3));
    let [spot] = &reader.damage().spots[..] else {
        panic!("{:?}", reader.damage());
    };
    assert_eq!((spot.missing, spot.kind), (3, DamageKind::Missing));
}

#[test]
fn what_lies_behind_the_end_of_a_stream_that_ended_is_neither_read_nor_kept() {
    let longer = Bench::new();
    let (_, _, bytes) = small_stream(&longer, 5);
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..3 {
        append(&mut writer, &entry(n)).unwrap();
    }
    let stream = writer.stream().clone();
    drop(writer);
    journal.close().unwrap();
    let path = bench.segments()[0].clone();
    // As if cutting it off had failed.
    bench.disk.set_bytes(&path, &bytes);
    let found = verify(&*bench.disk.mount(), Path::new(DIR)).unwrap();
    assert!(found.damage.is_clean(), "{:?}", found.damage);
    assert_eq!((found.streams[0].next.0, found.streams[0].records), (3, 3));
    let (journal, recovered) = bench.open();
    assert_eq!((recovered.entries.len(), recovered.complete), (3, true));
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..3), 0));
    let end = record_ends(&bytes, 3)[2];
    assert_eq!(bench.disk.bytes(&path).len(), end, "cut off after all");
}

#[test]
fn the_last_of_many_segments_is_cut_where_it_ends() {
    let bench = Bench::new();
    let (stream, ..) = small_stream(&bench, 900);
    let written = |path: &&PathBuf| used(&bench.disk.bytes(path)) > 0;
    let segments = bench.segments();
    let last = segments.iter().rfind(written).unwrap();
    assert_ne!(Some(last), segments.first());
    let end = used(&bench.disk.bytes(last));
    assert!(bench.disk.bytes(last).len() > end);
    let (journal, _) = bench.open();
    // The last byte of a record may be a zero.
    assert!((end..end + 8).contains(&bench.disk.bytes(last).len()));
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..900), 0));
}

#[test]
fn a_stream_that_ended_and_whose_files_hold_nothing_is_missed_by_whoever_verifies() {
    for unreadable in [false, true] {
        let bench = Bench::new();
        let (journal, _) = bench.open();
        let mut writer = journal.writer(0).unwrap();
        for n in 0..20 {
            append(&mut writer, &entry(n)).unwrap();
        }
        drop(writer);
        journal.close().unwrap();
        let path = bench.segments()[0].clone();
        if unreadable {
            bench.disk.spoil(&path, 0, u64::MAX);
        } else {
            let bytes = vec![0; bench.disk.bytes(&path).len()];
            bench.disk.set_bytes(&path, &bytes);
        }
        let found = verify(&*bench.disk.mount(), Path::new(DIR)).unwrap();
        assert_eq!(found.damage.missing, 20, "{:?}", found.damage);
        let [stream] = found.streams.as_slice() else {
            panic!("{:?}", found.streams);
        };
        assert_eq!((stream.next.0, stream.totals.events_sum()), (20, 20));
        if !unreadable {
            assert_eq!(bench.open().1.damage.missing, 20, "told by a start too");
        }
    }
}

#[test]
fn the_files_of_a_stream_that_ended_are_missed_when_they_are_gone() {
    let bench = Bench::new();
    let (journal, _) = bench.open();
    let mut writer = journal.writer(0).unwrap();
    for n in 0..20 {
        append(&mut writer, &entry(n)).unwrap();
    }
    drop(writer);
    journal.close().unwrap();
    for path in bench.segments() {
        bench.disk.lose(&path);
    }
    let (journal, recovered) = bench.open();
    assert_eq!((recovered.damage.missing, recovered.complete), (20, false));
    assert_eq!(journal.damage(), recovered.damage);
    assert_eq!(journal.reader().totals()[0].totals.events_sum(), 20);
}

#[test]
fn an_end_that_cannot_be_read_leaves_the_past_incomplete_unless_a_checkpoint_has_it() {
    for covered in [false, true] {
        let bench = Bench::new();
        let (_, _, _) = small_stream(&bench, 900);
        let written = |path: &&PathBuf| used(&bench.disk.bytes(path)) > 0;
        let segments = bench.segments();
        let last = segments.iter().rfind(written).unwrap();
        if covered {
            let (journal, _) = bench.open();
            bench.checkpoint(&journal, 0).unwrap();
            bench.disk.kill();
        }
        bench.disk.spoil(last, 0, u64::MAX);
        let (_journal, recovered) = bench.open();
        assert!(!recovered.damage.is_clean());
        assert_eq!(recovered.complete, covered);
    }
}

#[test]
fn a_segment_of_which_the_header_alone_can_be_read_stays() {
    let bench = Bench::new();
    let (stream, path, bytes) = small_stream(&bench, 50);
    bench.disk.spoil(&path, 512, u64::MAX);
    let (journal, recovered) = bench.open();
    assert!(!recovered.damage.is_clean());
    bench.disk.kill();
    drop(journal);
    assert_eq!(bench.disk.bytes(&path), bytes, "it stays as it was");
    bench.disk.spoil(&path, 0, 0);
    let (journal, _) = bench.open();
    assert_eq!(read_all(&journal.reader(), &stream), (expected(0..50), 0));
}
