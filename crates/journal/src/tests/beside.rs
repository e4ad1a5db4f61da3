//! An onlooker between whose every two operations the writer may go on: stepwise, in one thread, so
//! that what is found is found again.
//!
//! `TOLLGATE_JOURNAL_EVERY` is the stride over the onlooker's operations.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::exhaustive::every;
use super::folder::open_beside;
use super::*;
use crate::{FileHandle, Filesystem, Folder, LockGuard, OutcomeTotals, ReadError, verify};

type Step = Arc<dyn Fn() + Send + Sync>;

/// A filesystem that does something else before each of its operations.
struct Stepping {
    inner: Arc<dyn Filesystem>,
    step: Step,
}

struct SteppingFile {
    inner: Arc<dyn FileHandle>,
    step: Step,
}

impl FileHandle for SteppingFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.inner.write_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.step)();
        self.inner.read_at(bytes, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }

    fn length(&self) -> io::Result<u64> {
        (self.step)();
        self.inner.length()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.inner.sync_all()
    }
}

impl Filesystem for Stepping {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        (self.step)();
        self.inner.list(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>> {
        self.inner.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>> {
        self.open_read(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>> {
        (self.step)();
        Ok(Arc::new(SteppingFile {
            inner: self.inner.open_read(path)?,
            step: Arc::clone(&self.step),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.inner.lock(path)
    }

    fn boot_id(&self) -> Option<String> {
        self.inner.boot_id()
    }
}

/// A journal and what it does next.
struct Busy {
    bench: Bench,
    journal: Journal,
    writer: Writer,
    next: u64,
}

impl Busy {
    fn go_on(&mut self, count: u64) {
        for _ in 0..count {
            append(&mut self.writer, &entry(self.next)).unwrap();
            self.next += 1;
            if self.next.is_multiple_of(60) {
                self.journal.sync();
            }
            if self.next.is_multiple_of(100) {
                self.bench.checkpoint(&self.journal, self.next).unwrap();
                let shipped = Sequence(self.next - 20);
                self.journal.reader().shipped(self.writer.stream(), shipped);
                self.bench.clock.advance(10);
                self.journal.purge();
            }
        }
    }
}

/// A busy journal that goes on by `count` entries before the onlooker's `at`-th operation, and the
/// onlooker's filesystem; its operations are counted.
fn busy(at: u64, count: u64) -> (Arc<Mutex<Busy>>, Arc<dyn Filesystem>, Arc<AtomicU64>) {
    let mut bench = Bench::new();
    bench.options.segment_bytes = 16 * 1024;
    bench.options.keep_us = 1;
    let (journal, inner) = open_beside(&bench);
    let writer = journal.writer(0).unwrap();
    let mut busy = Busy {
        bench,
        journal,
        writer,
        next: 0,
    };
    busy.go_on(350);
    let busy = Arc::new(Mutex::new(busy));
    let operations = Arc::new(AtomicU64::new(0));
    let (mine, counter) = (Arc::clone(&busy), Arc::clone(&operations));
    let step = move || {
        if counter.fetch_add(1, Ordering::SeqCst) + 1 == at {
            mine.lock().unwrap().go_on(count);
        }
    };
    let step: Step = Arc::new(step);
    (busy, Arc::new(Stepping { inner, step }), operations)
}

fn look(filesystem: &Arc<dyn Filesystem>, context: &str) {
    let folder = Folder::open(Arc::clone(filesystem), Path::new(DIR));
    let folder = folder.unwrap().expect("there is a journal");
    let totals = folder.totals().unwrap();
    let (next, sum) = (totals[0].next, totals[0].totals);
    let mut expected = OutcomeTotals::default();
    (0..next.0).for_each(|n| expected.add(event(n, 0).outcome, n % 5));
    assert_eq!(sum, expected, "{context}: totals at {next:?}");
    let info = folder.streams().unwrap().remove(0);
    assert!(info.next >= next, "{context}");
    match folder.read(&info.id, info.first, 100, 1 << 20) {
        Ok(range) => {
            assert_eq!(range.missing, 0, "{context}");
            let numbers = info.first.0..range.next.0;
            assert_eq!(range.entries, super::expected(numbers), "{context}");
        }
        Err(ReadError::Deleted { first }) => assert!(first > info.first, "{context}"),
        Err(error) => panic!("{context}: {error}"),
    }
    let found = verify(&**filesystem, Path::new(DIR)).unwrap();
    assert!(found.damage.is_clean(), "{context}: {:?}", found.damage);
}

#[test]
fn wherever_the_writer_goes_on_an_onlooker_sees_one_moment_and_no_damage() {
    for count in [1, 7, 60, 250] {
        let mut at = 1;
        loop {
            let (_busy, filesystem, operations) = busy(at, count);
            look(
                &filesystem,
                &format!("{count} entries before operation {at}"),
            );
            if operations.load(Ordering::SeqCst) < at {
                break;
            }
            at += every(3) as u64;
        }
    }
}

#[test]
fn a_read_whose_segment_goes_again_and_again_ends_with_an_error() {
    let bench = Bench::new();
    let (journal, inner) = open_beside(&bench);
    let mut writer = journal.writer(0).unwrap();
    append(&mut writer, &entry(0)).unwrap();
    let path = bench.segments()[0].clone();
    let (disk, bytes) = (bench.disk.clone(), bench.disk.bytes(&path));
    // Operations of a read, from the one that opens the segment to the look that follows: 0 while
    // they are being counted.
    let (done, each) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (counter, period) = (Arc::clone(&done), Arc::clone(&each));
    let file = path.clone();
    let step: Step = Arc::new(move || {
        let n = counter.fetch_add(1, Ordering::SeqCst);
        match (period.load(Ordering::SeqCst), n) {
            (0, _) => {}
            (each, n) if n % each == 0 => disk.lose(&file),
            _ => disk.set_bytes(&file, &bytes),
        }
    });
    let filesystem: Arc<dyn Filesystem> = Arc::new(Stepping { inner, step });
    let folder = Folder::open(filesystem, Path::new(DIR)).unwrap().unwrap();
    done.store(0, Ordering::SeqCst);
    folder.streams().unwrap();
    each.store(done.swap(0, Ordering::SeqCst) + 1, Ordering::SeqCst);
    let read = folder.read(writer.stream(), Sequence(0), 1, 1);
    let Err(ReadError::Io { path: told, .. }) = read else {
        panic!("{read:?}");
    };
    assert_eq!(told, path);
}
