//! A small file kept twice and written alternately, each time whole: to a temporary name, synced,
//! renamed, the folder synced. Whatever happens meanwhile, the other copy is intact.
//!
//! ```text
//! 0       8      12      16           24
//! | magic | crc  | bytes | generation | payload |     crc over all behind it, little endian
//! ```

use std::io;
use std::path::{Path, PathBuf};

use crate::damage::{DamageKind, DamageSpot, file_name};
use crate::fs::{Filesystem, again, read_again, read_full_at, write_all_at};

const MAGIC: &[u8; 8] = b"TGtwin\x01\n";
const HEAD_BYTES: usize = 24;
/// Longest small file that is read, in bytes: a damaged length asks for no more memory than this.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// The pair of files of one name.
#[derive(Debug)]
pub(crate) struct Twin {
    name: &'static str,
    generation: u64,
    /// 0 or 1: the copy that is overwritten next.
    slot: usize,
    bytes: [u64; 2],
}

/// What was on disk.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub twin: Twin,
    /// Payloads that pass their checksum, newest first.
    pub payloads: Vec<Vec<u8>>,
    pub damage: Vec<DamageSpot>,
}

impl Loaded {
    /// Whether there is no such file.
    pub(crate) fn is_absent(&self) -> bool {
        self.payloads.is_empty() && self.damage.is_empty()
    }
}

fn path_of(dir: &Path, name: &str, slot: usize) -> PathBuf {
    dir.join(format!("{name}-{}", if slot == 0 { "a" } else { "b" }))
}

fn read_copy(fs: &dyn Filesystem, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open_read(path)?;
    let length = file.length()?.min(FILE_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn parse(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let crc = u32::from_le_bytes(number(bytes, 8)?);
    let length = u32::from_le_bytes(number(bytes, 12)?) as usize;
    let covered = bytes.get(12..HEAD_BYTES.checked_add(length)?)?;
    if !bytes.starts_with(MAGIC) || crc32fast::hash(covered) != crc {
        return None;
    }
    let generation = u64::from_le_bytes(number(bytes, 16)?);
    Some((generation, bytes.get(HEAD_BYTES..HEAD_BYTES + length)?))
}

impl Twin {
    /// Reads both copies. A copy that is not there is no damage; one that cannot be read is.
    pub(crate) fn load(fs: &dyn Filesystem, dir: &Path, name: &'static str) -> Loaded {
        let mut twin = Self {
            name,
            generation: 0,
            slot: 0,
            bytes: [0; 2],
        };
        let mut found: Vec<(u64, usize, Vec<u8>)> = Vec::new();
        let mut damage = Vec::new();
        for slot in 0..2 {
            let path = path_of(dir, name, slot);
            let bytes = match read_again(|| read_copy(fs, &path)) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => Vec::new(),
            };
            if let Some(size) = twin.bytes.get_mut(slot) {
                *size = bytes.len() as u64;
            }
            match parse(&bytes) {
                Some((generation, payload)) => found.push((generation, slot, payload.to_vec())),
                None => damage.push(DamageSpot {
                    file: file_name(&path),
                    offset: 0,
                    bytes: bytes.len() as u64,
                    missing: 0,
                    kind: DamageKind::SmallFile,
                }),
            }
        }
        found.sort_by_key(|(generation, ..)| std::cmp::Reverse(*generation));
        if let Some((generation, slot, _)) = found.first() {
            twin.generation = *generation;
            twin.slot = 1 - *slot;
        }
        Loaded {
            twin,
            payloads: found.into_iter().map(|(.., payload)| payload).collect(),
            damage,
        }
    }

    /// Replaces the older copy. After an error the newer one is untouched.
    pub(crate) fn store(
        &mut self,
        fs: &dyn Filesystem,
        dir: &Path,
        payload: &[u8],
    ) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // Also after an error: a copy that made it to disk unnoticed must not tie with the next.
        self.generation += 1;
        let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(payload);
        let crc = crc32fast::hash(bytes.get(12..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(8..12) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        let temporary = dir.join(format!("{}.tmp", self.name));
        replace(
            fs,
            dir,
            &temporary,
            &path_of(dir, self.name, self.slot),
            &bytes,
        )?;
        if let Some(size) = self.bytes.get_mut(self.slot) {
            *size = bytes.len() as u64;
        }
        self.slot = 1 - self.slot;
        Ok(())
    }

    /// Bytes of both copies.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.bytes.iter().sum()
    }
}

/// Puts a file in place whole or not at all, durably.
pub(crate) fn replace(
    fs: &dyn Filesystem,
    dir: &Path,
    temporary: &Path,
    path: &Path,
    bytes: &[u8],
) -> io::Result<()> {
    let file = again(|| fs.create(temporary))?;
    write_all_at(&*file, bytes, 0)?;
    again(|| file.sync_all())?;
    drop(file);
    again(|| fs.rename(temporary, path))?;
    again(|| fs.sync_dir(dir))
}
