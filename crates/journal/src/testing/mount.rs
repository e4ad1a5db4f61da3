//! The faulty disk as one process sees it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};

use super::faulty::{Fault, FaultyDisk, Node, Pending, State, eio};
use super::parts::Renaming;
use crate::fs::{FileHandle, Filesystem, LockGuard};

/// The disk as one process sees it; dead once the process was killed.
#[derive(Debug, Clone)]
pub(super) struct Mount {
    disk: FaultyDisk,
    number: u64,
}

#[derive(Debug)]
struct OpenFile {
    mount: Mount,
    node: usize,
}

struct Held {
    disk: FaultyDisk,
    number: u64,
    path: PathBuf,
}

impl LockGuard for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.mount == self.number {
            state.locks.remove(&self.path);
        }
    }
}

impl Mount {
    pub(super) fn of(disk: FaultyDisk, number: u64) -> Arc<dyn Filesystem> {
        Arc::new(Self { disk, number })
    }

    fn file(&self, node: usize) -> Arc<dyn FileHandle> {
        Arc::new(OpenFile {
            mount: self.clone(),
            node,
        })
    }

    /// Before an operation that changes nothing; the answer says how short it is.
    fn reading(&self) -> io::Result<(MutexGuard<'_, State>, Option<usize>)> {
        let mut state = self.disk.state();
        match state.begin(self.number, false)? {
            Some(Fault::Torn(_)) => Err(eio()),
            Some(Fault::Short(count)) => Ok((state, Some(count.max(1)))),
            _ => Ok((state, None)),
        }
    }

    fn writing(&self) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.disk.state();
        let fault = state.begin(self.number, true)?;
        Ok((state, fault))
    }

    /// Before an operation that changes something and does all of it or nothing.
    fn changing(&self) -> io::Result<MutexGuard<'_, State>> {
        match self.writing()? {
            (_, Some(Fault::Torn(_))) => Err(eio()),
            (state, _) => Ok(state),
        }
    }
}

impl FileHandle for OpenFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut state, fault) = self.mount.writing()?;
        let (count, torn) = match fault {
            Some(Fault::Short(count)) => (count.max(1), false),
            Some(Fault::Torn(count)) => (count, true),
            _ => (bytes.len(), false),
        };
        let part = bytes.get(..count).unwrap_or(bytes);
        state.make_room(self.node, offset + part.len() as u64)?;
        let data = part.to_vec();
        let node = state.node(self.node)?;
        node.change(Pending::Write(offset, data));
        if torn { Err(eio()) } else { Ok(part.len()) }
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut state, short) = self.mount.reading()?;
        let node = state.node(self.node)?;
        let from = offset as usize;
        let rest = node.volatile.get(from..).unwrap_or_default();
        let count = rest.len().min(bytes.len()).min(short.unwrap_or(usize::MAX));
        let end = offset + count as u64;
        if node
            .bad
            .is_some_and(|(low, high)| offset < high && end > low)
        {
            return Err(eio());
        }
        if let (Some(to), Some(from)) = (bytes.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.mount.changing()?;
        state.make_room(self.node, len)?;
        let node = state.node(self.node)?;
        node.allocated = len;
        node.change(Pending::Length(len));
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut state = self.mount.changing()?;
        let node = state.node(self.node)?;
        node.allocated = node.allocated.min(len);
        node.change(Pending::Length(len));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let (mut state, _) = self.mount.reading()?;
        Ok(state.node(self.node)?.volatile.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.mount.changing() {
            Ok(mut state) => {
                state.node(self.node)?.sync();
                Ok(())
            }
            Err(error) => {
                let interrupted = error.kind() == io::ErrorKind::Interrupted;
                let mut state = self.mount.disk.state();
                if state.mount == self.mount.number && !interrupted {
                    // Marked clean though they are not: a later sync does not cover them.
                    state.node(self.node)?.pending.clear();
                }
                Err(error)
            }
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Filesystem for Mount {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        self.changing().map(drop)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let (state, _) = self.reading()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>> {
        let mut state = self.changing()?;
        let node = state.nodes.len();
        state.nodes.push(Node::default());
        state.names.insert(path.to_owned(), node);
        state.renamings.push(Renaming::Name(path.to_owned(), node));
        Ok(self.file(node))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>> {
        let (state, _) = self.reading()?;
        let node = state.names.get(path).copied();
        let node = node.ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(node))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn FileHandle>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.changing()?;
        let node = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), node);
        let moved = Renaming::Move(from.to_owned(), to.to_owned(), node);
        state.renamings.push(moved);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.changing()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.renamings.push(Renaming::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.changing()?;
        let inside = |path: &PathBuf| path.parent() == Some(dir);
        let mut durable: BTreeMap<PathBuf, usize> = state.durable_names.clone();
        durable.retain(|path, _| !inside(path));
        let now = state.names.iter().filter(|(path, _)| inside(path));
        durable.extend(now.map(|(path, node)| (path.clone(), *node)));
        state.durable_names = durable;
        // All names are in one folder.
        state.renamings.clear();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let (mut state, _) = self.reading()?;
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(Held {
            disk: self.disk.clone(),
            number: self.number,
            path: path.to_owned(),
        })))
    }

    fn boot_id(&self) -> Option<String> {
        Some(format!("boot-{}", self.disk.state().boot))
    }
}
