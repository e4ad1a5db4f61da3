//! A filesystem in memory that can fail in every way a disk can.
//!
//! What was written is *volatile* until its file was synced, names until their folder was. Killing
//! the process keeps both; a power cut keeps only what is durable, and of the rest as much as the
//! test says. A sync that fails forgets, as real ones do, which bytes were not yet durable: a later
//! sync that succeeds does not cover them.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mount::Mount;
use super::parts::{Picks, Renaming};
use crate::fs::Filesystem;

/// What happens to one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// EIO; nothing is done.
    Io,
    /// ENOSPC; nothing is done.
    Full,
    /// EDQUOT; nothing is done.
    Quota,
    /// EINTR; nothing is done.
    Interrupted,
    /// A write writes, a read reads only this many bytes (at least one) and says so.
    Short(usize),
    /// A write writes only this many bytes and fails with EIO; anything else just fails.
    Torn(usize),
    /// The process is killed: this and every later operation of the same mount fails.
    Kill,
}

/// What of the bytes and names that were not durable survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerCut {
    /// Nothing.
    LoseAll,
    /// Everything.
    KeepAll,
    /// What a generator with this seed picks: whole writes, parts of them, none.
    Random(u64),
}

#[derive(Debug, Clone)]
pub(super) enum Pending {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug, Default, Clone)]
pub(super) struct Node {
    pub volatile: Vec<u8>,
    pub durable: Vec<u8>,
    pub pending: Vec<Pending>,
    pub allocated: u64,
    pub bad: Option<(u64, u64)>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct State {
    pub nodes: Vec<Node>,
    pub names: BTreeMap<PathBuf, usize>,
    pub durable_names: BTreeMap<PathBuf, usize>,
    pub renamings: Vec<Renaming>,
    pub locks: HashSet<PathBuf>,
    pub mount: u64,
    pub boot: u64,
    pub operations: u64,
    pub changes: u64,
    /// Whether operations are neither counted nor fail.
    pub paused: bool,
    pub faults: BTreeMap<u64, Fault>,
    pub standing: Option<Fault>,
    pub bytes_max: Option<u64>,
}

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// The disk; survives the processes that mount it.
#[derive(Debug, Clone, Default)]
pub struct FaultyDisk(Arc<Mutex<State>>);

pub(super) fn eio() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

pub(super) fn edquot() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::DQUOT.raw_os_error())
}

pub(super) fn enospc() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error())
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = offset as usize;
    let end = start + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(start..end) {
        place.copy_from_slice(data);
    }
}

impl Node {
    fn apply(bytes: &mut Vec<u8>, pending: &Pending) {
        match pending {
            Pending::Write(offset, data) => put(bytes, *offset, data),
            Pending::Length(length) => bytes.resize(*length as usize, 0),
        }
    }

    pub(super) fn change(&mut self, pending: Pending) {
        Self::apply(&mut self.volatile, &pending);
        self.pending.push(pending);
    }

    pub(super) fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            Self::apply(&mut self.durable, &pending);
        }
    }

    fn cut(&mut self, how: PowerCut, picks: &mut Picks) {
        for pending in std::mem::take(&mut self.pending) {
            let keep = match how {
                PowerCut::LoseAll => 0,
                PowerCut::KeepAll => 2,
                PowerCut::Random(_) => picks.next(3),
            };
            match (keep, pending) {
                (0, _) => {}
                (1, Pending::Write(offset, data)) => {
                    self.cut_write(offset, &data, picks);
                }
                (_, pending) => Self::apply(&mut self.durable, &pending),
            }
        }
        self.volatile = self.durable.clone();
    }

    /// A part of a write: its beginning, or any of its sectors.
    fn cut_write(&mut self, offset: u64, data: &[u8], picks: &mut Picks) {
        if picks.next(2) == 0 {
            let part = picks.next(data.len() as u64) as usize;
            put(
                &mut self.durable,
                offset,
                data.get(..part).unwrap_or_default(),
            );
            return;
        }
        let mut at = 0;
        while at < data.len() {
            let sector = SECTOR_BYTES - (offset as usize + at) % SECTOR_BYTES;
            let end = (at + sector).min(data.len());
            if picks.next(2) == 0 {
                put(
                    &mut self.durable,
                    offset + at as u64,
                    data.get(at..end).unwrap_or_default(),
                );
            }
            at = end;
        }
    }
}

impl FaultyDisk {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process starts; whatever was mounted before is dead.
    #[must_use]
    pub fn mount(&self) -> Arc<dyn Filesystem> {
        self.kill();
        let number = self.state().mount;
        Mount::of(self.clone(), number)
    }

    /// The files as another process sees them beside the one that runs.
    #[must_use]
    pub fn view(&self) -> Arc<dyn Filesystem> {
        let number = self.state().mount;
        Mount::of(self.clone(), number)
    }

    /// The process is killed: what the kernel has stays.
    pub fn kill(&self) {
        let mut state = self.state();
        state.mount += 1;
        state.locks.clear();
    }

    /// The machine stops and starts again.
    pub fn cut_power(&self, how: PowerCut) {
        self.kill();
        let mut state = self.state();
        let mut picks = Picks(match how {
            PowerCut::Random(seed) => seed,
            _ => 0,
        });
        state.boot += 1;
        for node in &mut state.nodes {
            node.cut(how, &mut picks);
        }
        let mut names = state.durable_names.clone();
        for renaming in std::mem::take(&mut state.renamings) {
            let keep = match how {
                PowerCut::LoseAll => false,
                PowerCut::KeepAll => true,
                PowerCut::Random(_) => picks.next(2) == 0,
            };
            if keep {
                renaming.apply(&mut names);
            }
        }
        state.durable_names = names.clone();
        state.names = names;
    }

    /// A disk of its own with the same content.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// While paused, operations are neither counted nor meet faults: for looking without touching.
    pub fn pause(&self, paused: bool) {
        self.state().paused = paused;
    }

    /// How often a process was started or killed: equal values enclose one life.
    #[must_use]
    pub fn lives(&self) -> u64 {
        self.state().mount
    }

    /// Operations so far that change something.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Operations so far, reads too.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The `n`-th operation from now (1: the next), reads too, meets a fault.
    pub fn fault_at(&self, n: u64, fault: Fault) {
        let mut state = self.state();
        let at = state.operations + n;
        state.faults.insert(at, fault);
    }

    /// Every changing operation meets this fault, until it is taken back.
    pub fn fault_always(&self, fault: Option<Fault>) {
        self.state().standing = fault;
    }

    /// Forgets faults that have not happened.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.standing = None;
    }

    /// How much the disk holds.
    pub fn set_bytes_max(&self, bytes: Option<u64>) {
        self.state().bytes_max = bytes;
    }

    /// Names of all files.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// A file's bytes; empty where there is none.
    #[must_use]
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        let node = state
            .names
            .get(path)
            .and_then(|node| state.nodes.get(*node));
        node.map(|node| node.volatile.clone()).unwrap_or_default()
    }

    /// Replaces a file's bytes behind everybody's back, durably; makes it where there is none.
    pub fn set_bytes(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let fresh = state.nodes.len();
        let node = *state.names.entry(path.to_owned()).or_insert(fresh);
        state.durable_names.insert(path.to_owned(), node);
        if node == fresh {
            state.nodes.push(Node::default());
        }
        if let Some(node) = state.nodes.get_mut(node) {
            node.volatile = bytes.to_vec();
            node.durable = bytes.to_vec();
            node.pending.clear();
        }
    }

    /// Removes a file behind everybody's back.
    pub fn lose(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// Reading these bytes of a file fails with EIO from now on.
    pub fn spoil(&self, path: &Path, from: u64, to: u64) {
        let mut state = self.state();
        let node = state.names.get(path).copied();
        if let Some(node) = node.and_then(|node| state.nodes.get_mut(node)) {
            node.bad = Some((from, to));
        }
    }
}

impl State {
    /// Counts an operation and says what happens to it.
    pub(super) fn begin(&mut self, mount: u64, changing: bool) -> io::Result<Option<Fault>> {
        if mount != self.mount {
            return Err(eio());
        }
        if self.paused {
            return Ok(None);
        }
        self.operations += 1;
        self.changes += u64::from(changing);
        let now = self.operations;
        let standing = self.standing.filter(|_| changing);
        let fault = self.faults.remove(&now).or(standing);
        match fault {
            Some(Fault::Io) => Err(eio()),
            Some(Fault::Full) => Err(enospc()),
            Some(Fault::Quota) => Err(edquot()),
            Some(Fault::Interrupted) => Err(io::ErrorKind::Interrupted.into()),
            Some(Fault::Kill) => {
                self.mount += 1;
                self.locks.clear();
                Err(eio())
            }
            other => Ok(other),
        }
    }

    pub(super) fn node(&mut self, node: usize) -> io::Result<&mut Node> {
        self.nodes.get_mut(node).ok_or_else(eio)
    }

    fn used(&self) -> u64 {
        let sizes = self.names.values().filter_map(|node| self.nodes.get(*node));
        sizes
            .map(|node| node.allocated.max(node.volatile.len() as u64))
            .sum()
    }

    /// Whether the disk holds `length` bytes of this file.
    pub(super) fn make_room(&self, node: usize, length: u64) -> io::Result<()> {
        let has = self
            .nodes
            .get(node)
            .map_or(0, |node| node.allocated.max(node.volatile.len() as u64));
        let more = length.saturating_sub(has);
        match self.bytes_max {
            Some(max) if more > 0 && self.used() + more > max => Err(enospc()),
            _ => Ok(()),
        }
    }
}
