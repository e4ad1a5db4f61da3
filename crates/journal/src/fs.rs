//! The filesystem as the journal sees it, and the real one.
//!
//! The trait is as wide as the journal needs and no wider, so that the faulty filesystem of the
//! tests can stand for it at every operation. Interrupted and short operations are made good here,
//! and reads tried again ([`again`], [`read_again`], [`write_all_at`]), above the trait; every other error goes to who asked.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};

/// An open file, read and written by position. Dropping it closes it.
pub trait FileHandle: Send + Sync {
    /// Writes at `offset`; may write less than asked.
    ///
    /// # Errors
    /// The operating system's.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Reads at `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// The operating system's.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reserves space for the first `len` bytes and makes the file that long; they read as zeros.
    ///
    /// # Errors
    /// The operating system's.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// The file's length in bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn length(&self) -> io::Result<u64>;
    /// Waits until the bytes written are on disk.
    ///
    /// # Errors
    /// The operating system's; nothing may be believed about bytes written since the last success.
    fn sync_data(&self) -> io::Result<()>;
    /// Waits until bytes and length are on disk.
    ///
    /// # Errors
    /// As [`Self::sync_data`].
    fn sync_all(&self) -> io::Result<()>;
}

/// Keeps other processes out for as long as it lives; the system lets go when the process dies.
pub trait LockGuard: Send + Sync {}

/// Files in folders.
pub trait Filesystem: Send + Sync {
    /// Makes a folder and those above it, where missing, durably.
    ///
    /// # Errors
    /// The operating system's.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Names of the files in a folder, in any order.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes an empty file, or empties it, open for reading and writing.
    ///
    /// # Errors
    /// The operating system's.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>>;
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// The operating system's.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>>;
    /// Opens a file for reading only.
    ///
    /// # Errors
    /// The operating system's.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>>;
    /// Renames, replacing what was there.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Waits until the folder's names are on disk.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock file; `None` while somebody else has it.
    ///
    /// # Errors
    /// The operating system's.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>>;
    /// Tells one run of the machine from another; `None` where that cannot be known.
    fn boot_id(&self) -> Option<String>;
}

/// The real filesystem.
#[derive(Debug, Default, Clone, Copy)]
pub struct DiskFilesystem;

struct DiskFile(File);

struct DiskLock {
    _file: File,
}

impl LockGuard for DiskLock {}

impl FileHandle for DiskFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(&self.0, bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, bytes, offset)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        use rustix::io::Errno;
        match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // Filesystems without the call get zeros written, which takes the space just as well.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill_with_zeros(&self.0, len),
            Err(error) => Err(error.into()),
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn length(&self) -> io::Result<u64> {
        self.0.metadata().map(|meta| meta.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

fn fill_with_zeros(file: &File, len: u64) -> io::Result<()> {
    let zeros = [0u8; 64 * 1024];
    let mut offset = 0;
    while offset < len {
        let left = usize::try_from(len - offset).unwrap_or(usize::MAX);
        let chunk = zeros.get(..left.min(zeros.len())).unwrap_or(&zeros);
        file.write_all_at(chunk, offset)?;
        offset += chunk.len() as u64;
    }
    Ok(())
}

impl Filesystem for DiskFilesystem {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        // A folder's own name is lost by a power cut until the one above it is synced.
        let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
        fs::create_dir_all(dir)?;
        for made in missing {
            let above = made.parent().filter(|above| *above != Path::new(""));
            File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>> {
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).truncate(true);
        Ok(Arc::new(DiskFile(how.open(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(DiskFile(file)))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>> {
        Ok(Arc::new(DiskFile(File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).truncate(false);
        let file = how.open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(DiskLock { _file: file }))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn boot_id(&self) -> Option<String> {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(text.trim().to_owned())
    }
}

/// How often an interrupted operation is tried again before its error is believed.
const INTERRUPTIONS_MAX: u32 = 1_000;

/// Repeats an operation that a signal interrupted.
pub(crate) fn again<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut left = INTERRUPTIONS_MAX;
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && left > 0 => left -= 1,
            other => return other,
        }
    }
}

/// How often a read is tried before its error is believed.
const READS_MAX: u32 = 3;

/// Repeats a read that failed. Sound for reads alone: one that failed has changed nothing, while a
/// sync that failed may have forgotten what it should have written.
pub(crate) fn read_again<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut left = READS_MAX;
    loop {
        left -= 1;
        match again(&mut operation) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && left > 0 => {}
            other => return other,
        }
    }
}

/// Writes all bytes, going on after short writes. An error leaves any part of them written.
pub(crate) fn write_all_at(file: &dyn FileHandle, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut left = bytes;
    let mut at = offset;
    while !left.is_empty() {
        let written = again(|| file.write_at(left, at))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        left = left.get(written..).unwrap_or_default();
        at += written as u64;
    }
    Ok(())
}

/// Fills the buffer as far as the file goes; the answer is how far.
pub(crate) fn read_full_at(
    file: &dyn FileHandle,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let read = read_again(|| file.read_at(rest, offset + filled as u64))?;
        if read == 0 {
            break;
        }
        filled += read;
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::testing::{Fault, FaultyDisk};

    const LEN: u64 = 150_000;

    #[test]
    fn allocating_takes_the_space_and_reads_as_zeros_with_the_call_and_without() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let allocate = || DiskFilesystem.create(&path)?.allocate(LEN);
        let fill = || fill_with_zeros(&File::create(&path)?, LEN);
        for way in [&allocate as &dyn Fn() -> io::Result<()>, &fill] {
            way().unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len() as u64, LEN);
            assert!(bytes.iter().all(|byte| *byte == 0));
            let blocks = fs::metadata(&path).unwrap().blocks();
            assert!(blocks * 512 >= LEN, "{blocks} blocks");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_is_as_long_as_it_was_made_and_cut() {
        let folder = tempfile::tempdir().unwrap();
        let file = DiskFilesystem.create(&folder.path().join("file")).unwrap();
        write_all_at(&*file, b"0123456789", 5).unwrap();
        assert_eq!(file.length().unwrap(), 15);
        file.truncate(7).unwrap();
        assert_eq!(file.length().unwrap(), 7);
        let mut read = [9; 10];
        assert_eq!(read_full_at(&*file, &mut read, 4).unwrap(), 3);
        assert_eq!(&read[..4], b"\x0001\x09");
    }

    #[test]
    fn short_writes_and_reads_go_on_where_they_stopped() {
        let disk = FaultyDisk::default();
        let mount = disk.mount();
        mount.create_dir_all(Path::new("/folder")).unwrap();
        let file = mount.create(Path::new("/folder/file")).unwrap();
        disk.fault_always(Some(Fault::Short(3)));
        write_all_at(&*file, b"0123456789", 5).unwrap();
        let mut read = [9; 20];
        assert_eq!(read_full_at(&*file, &mut read, 4).unwrap(), 11);
        assert_eq!(&read[..12], b"\x000123456789\x09");
    }

    #[test]
    fn a_folder_may_be_named_from_where_the_process_stands() {
        let name = format!("journal-of-a-test-{}", std::process::id());
        let made = DiskFilesystem.create_dir_all(Path::new(&name));
        let found = Path::new(&name).is_dir();
        fs::remove_dir(&name).unwrap();
        made.unwrap();
        assert!(found);
    }

    #[test]
    fn a_folder_that_is_not_there_cannot_be_synced() {
        let folder = tempfile::tempdir().unwrap();
        DiskFilesystem.sync_dir(folder.path()).unwrap();
        let gone = DiskFilesystem.sync_dir(&folder.path().join("gone"));
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_boot_is_known_and_the_same_until_the_machine_starts_again() {
        let boot = DiskFilesystem.boot_id().unwrap();
        assert_eq!(boot.len(), 36, "{boot:?}");
        assert_eq!(DiskFilesystem.boot_id(), Some(boot));
    }

    /// How often it is tried while it fails like this, and what comes of it in the end.
    fn tries(
        repeat: fn(&mut dyn FnMut() -> io::Result<()>) -> io::Result<()>,
        kind: io::ErrorKind,
        failures: u32,
    ) -> (u32, Option<io::ErrorKind>) {
        let mut tries = 0;
        let result = repeat(&mut || {
            tries += 1;
            if tries <= failures {
                Err(kind.into())
            } else {
                Ok(())
            }
        });
        (tries, result.err().map(|error| error.kind()))
    }

    #[test]
    fn what_a_signal_interrupts_is_repeated_but_not_for_ever() {
        use io::ErrorKind::{Interrupted, Other};
        assert_eq!(tries(|o| again(o), Interrupted, 1_000), (1_001, None));
        assert_eq!(
            tries(|o| again(o), Interrupted, u32::MAX),
            (1_001, Some(Interrupted))
        );
        assert_eq!(tries(|o| again(o), Other, 1), (1, Some(Other)));
    }

    #[test]
    fn a_read_is_tried_three_times_and_a_file_that_is_gone_once() {
        use io::ErrorKind::{NotFound, Other};
        assert_eq!(tries(|o| read_again(o), Other, 2), (3, None));
        assert_eq!(tries(|o| read_again(o), Other, 3), (3, Some(Other)));
        assert_eq!(tries(|o| read_again(o), NotFound, 1), (1, Some(NotFound)));
    }
}
