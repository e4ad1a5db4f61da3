//! Bytes that changed behind the journal's back.

use super::*;
use crate::{DamageKind, verify};

/// A small stream, its process killed; the one segment's path and used bytes.
fn small_stream(bench: &Bench, entries: u64) -> (StreamId, PathBuf, Vec<u8>) {
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
fn record_ends(bytes: &[u8], entries: usize) -> Vec<usize> {
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
    check_unaltered(&entries, "bad blocks");
    assert_eq!(entries.len() as u64 + missing, 100);
    assert!((10..60).contains(&missing), "{missing}");
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
    check_unaltered(&read_all(&journal.reader(), &stream).0, "no front");
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
