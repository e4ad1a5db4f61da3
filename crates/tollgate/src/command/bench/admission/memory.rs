//! What keys and counters weigh, and how long a start with them takes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tollgate_journal::{DiskFilesystem, Journal, JournalOptions, Recovered};
use tollgate_lifecycle::{SystemClock, SystemIds};
use tollgate_model::{Clock, IdGen};

use super::speed::{self, Caller, instant_ns};
use super::world;

/// One key of so many is used.
const USED_PART: u32 = 10;

/// What was measured.
#[derive(Debug)]
pub struct Memory {
    pub keys: u32,
    pub used: u32,
    pub counters: usize,
    /// Resident before anything was loaded, in bytes.
    pub before_bytes: u64,
    /// With the catalog and all keys.
    pub keys_bytes: u64,
    /// With the counters and compiled limits of the keys in use.
    pub used_bytes: u64,
    /// The longest time that a shard was locked for its copy.
    pub copy_ns_max: u64,
    pub checkpoint_bytes: u64,
    pub checkpoint_ns: u64,
    /// Opening the journal and restoring counters.
    pub restore_ns: u64,
    /// Catalog and keys, from memory.
    pub load_ns: u64,
}

impl Memory {
    /// Bytes that a key takes, with its part of the catalog.
    #[must_use]
    pub fn per_key_bytes(&self) -> u64 {
        self.keys_bytes.saturating_sub(self.before_bytes) / u64::from(self.keys.max(1))
    }

    /// Bytes that a counter in use takes, with its part of the compiled limits.
    #[must_use]
    pub fn per_counter_bytes(&self) -> u64 {
        self.used_bytes.saturating_sub(self.keys_bytes) / (self.counters as u64).max(1)
    }

    /// A whole start, without reading the catalog from its store.
    #[must_use]
    pub fn start_ns(&self) -> u64 {
        self.restore_ns + self.load_ns
    }
}

/// Loads keys, uses a tenth of them, writes a checkpoint, and starts again from it.
///
/// # Errors
/// When memory cannot be read or the temporary folder not written.
pub fn measure(keys: u32, keys_per_subscription: u32) -> anyhow::Result<Memory> {
    let threads = u16::try_from(speed::cores()).unwrap_or(1);
    let folder = Folder::new()?;
    let before_bytes = resident_bytes()?;
    let probe = Arc::new(world::probe(keys, keys_per_subscription, threads, None)?);
    let keys_bytes = resident_bytes()?;
    let mut caller = Caller::new(&probe)?;
    for key in (0..keys).step_by(USED_PART as usize) {
        caller.call(key)?;
    }
    let used_bytes = resident_bytes()?;
    let counters = probe.totals().counters;
    let copy_ns_max = probe.longest_copy_ns(instant_ns);
    let (journal, _) = open(&folder.0, threads)?;
    let began = instant_ns();
    probe.write_checkpoint(&journal)?;
    let checkpoint_ns = instant_ns() - began;
    drop((journal, caller, probe));
    let checkpoint_bytes = folder.checkpoint_bytes()?;

    let began = instant_ns();
    let (_journal, recovered) = open(&folder.0, threads)?;
    let opened_ns = instant_ns() - began;
    let began = instant_ns();
    let empty = world::probe(0, 1, threads, Some(&recovered))?;
    let restore_ns = opened_ns + (instant_ns() - began);
    anyhow::ensure!(
        empty.totals().counters == counters,
        "the start has restored {} of {counters} counters",
        empty.totals().counters
    );
    let began = instant_ns();
    drop(world::probe(keys, keys_per_subscription, threads, None)?);
    let load_ns = instant_ns() - began;
    Ok(Memory {
        keys,
        used: keys.div_ceil(USED_PART),
        counters,
        before_bytes,
        keys_bytes,
        used_bytes,
        copy_ns_max,
        checkpoint_bytes,
        checkpoint_ns,
        restore_ns,
        load_ns,
    })
}

fn open(folder: &Path, threads: u16) -> anyhow::Result<(Journal, Recovered)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let options = JournalOptions::new(folder);
    let opened = Journal::open(
        Arc::new(DiskFilesystem),
        options,
        threads,
        None,
        clock,
        &SystemIds,
    );
    opened.with_context(|| format!("no journal can be opened in {}", folder.display()))
}

/// A folder that goes away at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let id = SystemIds.uuid(SystemClock::new().now().wall);
        let folder = std::env::temp_dir().join(format!("tollgate-bench-{id:032x}"));
        std::fs::create_dir(&folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(Self(folder))
    }

    fn checkpoint_bytes(&self) -> anyhow::Result<u64> {
        let mut most = 0;
        for file in std::fs::read_dir(&self.0)? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with("checkpoint") {
                most = most.max(file.metadata()?.len());
            }
        }
        Ok(most)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed lies in the machine's folder for such things.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Memory of this process that is in use, in bytes.
fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("memory can be measured on Linux only; leave it out with --speed-only")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = kib.context("/proc/self/status has no VmRSS")?.parse()?;
    Ok(kib * 1_024)
}
