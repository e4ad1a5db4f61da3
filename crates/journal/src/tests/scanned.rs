//! Going through the records of one segment.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::damage::{record_ends, small_stream};
use super::*;
use crate::FileHandle;
use crate::scan::{Scan, Step};

/// A file that counts how often it is read.
struct Counted(Vec<u8>, AtomicU64);

impl FileHandle for Counted {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let from = self.0.get(offset as usize..).unwrap_or_default();
        let read = from.len().min(into.len());
        into[..read].copy_from_slice(&from[..read]);
        Ok(read)
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_that_were_read_together_are_not_read_again() {
    let bench = Bench::new();
    let (stream, _, bytes) = small_stream(&bench, 50);
    let end = record_ends(&bytes, 50)[49];
    let file = Arc::new(Counted(bytes, AtomicU64::new(0)));
    let salt = crate::frame::salt_of(stream.epoch, stream.thread);
    let start = crate::segment::HEADER_BYTES as u64;
    let mut scan = Scan::new(file.clone(), salt, start, end as u64, 0);
    for n in 0..50 {
        let step = scan.step().unwrap();
        assert!(
            matches!(step, Step::Record(head) if head.sequence == n),
            "{step:?}"
        );
    }
    assert_eq!(file.1.load(Ordering::Relaxed), 1);
}

#[test]
fn records_that_another_segment_holds_are_passed_over() {
    let bench = Bench::new();
    let (stream, path, bytes) = small_stream(&bench, 8);
    let salt = crate::frame::salt_of(stream.epoch, stream.thread);
    let file = bench.disk.mount().open_read(&path).unwrap();
    let end = record_ends(&bytes, 8)[7] as u64;
    let mut scan = Scan::new(file, salt, 512, end, 5);
    for n in 5..8 {
        let step = scan.step().unwrap();
        assert!(
            matches!(step, Step::Record(head) if head.sequence == n),
            "{step:?}"
        );
    }
}
