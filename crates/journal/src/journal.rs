//! Opening, holding and closing a journal.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use prost::Message;
use tokio::sync::watch;
use tollgate_model::{Clock, IdGen, NodeId, Now, ShardSnapshot, StreamId, Ticks, Timestamp};

use crate::damage::DamageBook;
use crate::fs::{Filesystem, again, read_full_at};
use crate::live::LiveStream;
use crate::options::NODE_BYTES_MAX;
use crate::recover::{Recovery, recover};
use crate::shared::{DiskBudget, Shared, Signal, lock};
use crate::stream::{Sealed, Stream};
use crate::twin::replace;
use crate::wire::State;
use crate::{
    DamageReport, JournalError, JournalFull, JournalOptions, LostSpan, Reader, Recovered, SyncMode,
    Writer, sync,
};

/// An open journal. Closing or dropping it syncs, seals and ends the sync thread; entries appended
/// afterwards are refused.
pub struct Journal {
    shared: Arc<Shared>,
    pub(crate) thread: Option<JoinHandle<()>>,
}

/// How the journal is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalStatus {
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Most bytes on disk.
    pub disk_bytes_max: u64,
    /// Bytes written and not yet synced, or waiting in memory.
    pub unsynced_bytes: u64,
    /// Why some thread cannot go on for long, if one cannot.
    pub full: Option<JournalFull>,
    /// Entries that cannot be read, found since the journal was opened.
    pub missing: u64,
}

impl Journal {
    /// Opens the journal in `options.dir` for a gateway of `threads` threads, and says what the
    /// past left there. `node_name` overrides the name kept in the folder.
    ///
    /// # Errors
    /// [`JournalError`]; never because of damaged bytes.
    pub fn open(
        fs: Arc<dyn Filesystem>,
        options: JournalOptions,
        threads: u16,
        node_name: Option<&str>,
        clock: Arc<dyn Clock>,
        ids: &dyn IdGen,
    ) -> Result<(Self, Recovered), JournalError> {
        let (shared, recovered) = open_shared(fs, options, threads, node_name, clock, ids)?;
        let thread = sync::spawn(&shared).map_err(JournalError::io(
            "start the sync thread of",
            &shared.options.dir,
        ))?;
        let journal = Self {
            shared,
            thread: Some(thread),
        };
        Ok((journal, recovered))
    }

    /// As [`Journal::open`], but nothing runs by itself: syncs happen when [`Journal::sync`] is
    /// called. For tests that decide the order of everything.
    ///
    /// # Errors
    /// [`JournalError`].
    #[cfg(any(test, feature = "testing"))]
    pub fn open_by_hand(
        fs: Arc<dyn Filesystem>,
        options: JournalOptions,
        threads: u16,
        clock: Arc<dyn Clock>,
        ids: &dyn IdGen,
    ) -> Result<(Self, Recovered), JournalError> {
        let (shared, recovered) = open_shared(fs, options, threads, None, clock, ids)?;
        let journal = Self {
            shared,
            thread: None,
        };
        Ok((journal, recovered))
    }

    /// The writer of one thread; `None` where there is no such thread or it was given out before.
    #[must_use]
    pub fn writer(&self, thread: u16) -> Option<Writer> {
        let live = self.shared.live.get(usize::from(thread))?;
        let first = !live.taken.swap(true, Ordering::AcqRel);
        first.then(|| Writer::new(Arc::clone(&self.shared), Arc::clone(live)))
    }

    /// A reader of every stream.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// This gateway's name.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.shared.node
    }

    /// This life.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Syncs every stream now, and tries again what failed before. Blocks.
    pub fn sync(&self) {
        self.shared.round(true);
    }

    /// Deletes what is shipped, covered by two checkpoints and older than `keep`. Blocks; the sync
    /// thread does it every second.
    pub fn purge(&self) -> bool {
        self.shared.purge(None)
    }

    /// Writes a checkpoint once every entry it names is on disk. Blocks: not for gateway threads.
    /// `at` is from before the first shard was copied.
    ///
    /// # Errors
    /// [`JournalError::NotWritten`] when entries do not get to disk in time (the checkpoint before
    /// stays), [`JournalError::Io`] when the file cannot be written.
    pub fn write_checkpoint(&self, at: Now, shards: &[ShardSnapshot]) -> Result<(), JournalError> {
        self.shared.write_checkpoint(at, shards)
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> JournalStatus {
        let mut unsynced_bytes = 0;
        let mut full = None;
        for live in &self.shared.live {
            let inner = lock(&live.inner);
            unsynced_bytes += (inner.waiting.bytes.len() + inner.syncing.bytes.len()) as u64;
            full = full.or(if inner.failed {
                Some(JournalFull::Failed)
            } else {
                inner.full
            });
        }
        JournalStatus {
            disk_bytes: self.shared.disk.used(),
            disk_bytes_max: self.shared.options.disk_bytes_max,
            unsynced_bytes,
            full,
            missing: self.shared.damage.report().missing,
        }
    }

    /// All that was found broken since the journal was opened.
    #[must_use]
    pub fn damage(&self) -> DamageReport {
        self.shared.damage.report()
    }

    /// Syncs, seals every stream and lets go of the folder.
    ///
    /// # Errors
    /// [`JournalError::NotWritten`] when entries wait in memory for a disk that does not come
    /// back: they are lost, and their streams are not sealed. [`JournalError::Io`] when the small
    /// files cannot be written.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), JournalError> {
        self.shared.signal.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the journal's sync thread panicked");
        }
        self.shared.close()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "journal not closed cleanly");
        }
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("dir", &self.shared.options.dir)
            .field("node", &self.shared.node)
            .field("epoch", &self.shared.epoch)
            .finish_non_exhaustive()
    }
}

fn open_shared(
    fs: Arc<dyn Filesystem>,
    options: JournalOptions,
    threads: u16,
    node_name: Option<&str>,
    clock: Arc<dyn Clock>,
    ids: &dyn IdGen,
) -> Result<(Arc<Shared>, Recovered), JournalError> {
    options.check(threads)?;
    let dir = options.dir.clone();
    again(|| fs.create_dir_all(&dir)).map_err(JournalError::io("make", &dir))?;
    let guard = again(|| fs.lock(&dir.join("lock")))
        .map_err(JournalError::io("lock", dir.join("lock")))?
        .ok_or_else(|| JournalError::InUse(dir.clone()))?;
    let mut recovery = recover(&*fs, &dir).map_err(JournalError::io("list", &dir))?;
    let now = clock.now();
    let node = settle_node(&*fs, &dir, node_name, &recovery, now.wall, ids)?;
    let epoch = next_epoch(&recovery, now.wall);
    let boot_id = fs.boot_id().unwrap_or_default();
    let recovered = tell(&mut recovery, &options, &node, epoch, now, &boot_id);
    let state = State {
        epoch,
        node: node.as_str().to_owned(),
        boot_id: boot_id.clone(),
        durable: options.sync == SyncMode::Durable,
        clean: false,
        last_tick: recovered.last_tick.0.max(now.ticks.0),
    };
    let stored = recovery.state.store(&*fs, &dir, &state.encode_to_vec());
    stored.map_err(JournalError::io("write the new epoch in", &dir))?;
    tidy(&*fs, &dir, &recovery);
    let shared = build(
        fs,
        options,
        threads,
        clock,
        recovery,
        (node, epoch, boot_id),
    );
    *lock(&shared.lock) = Some(guard);
    if let Err(error) = shared.store_ledger(&mut lock(&shared.ledger)) {
        // Old streams are read again at the next start; nothing is deleted without a ledger.
        tracing::warn!(%error, "cannot write the journal's ledger");
    }
    for live in &shared.live {
        live.replenish(&shared, true);
    }
    Ok((shared, recovered))
}

/// The name given, else the one kept, else a new one.
fn settle_node(
    fs: &dyn Filesystem,
    dir: &Path,
    given: Option<&str>,
    recovery: &Recovery,
    now: Timestamp,
    ids: &dyn IdGen,
) -> Result<NodeId, JournalError> {
    let fits = |name: &&str| {
        (1..=NODE_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
    };
    let path = dir.join("node");
    let text = read_text(fs, &path);
    let kept = text.as_deref().map(str::trim).filter(fits);
    let known = kept.or(recovery.node_seen.as_deref().filter(fits));
    let node = match (given, known) {
        (Some(name), _) => NodeId::new(Some(name).filter(fits).ok_or(JournalError::NodeName)?),
        (None, Some(name)) => NodeId::new(name),
        (None, None) => NodeId::made(ids.uuid(now)),
    };
    if kept != Some(node.as_str()) {
        let bytes = format!("{node}\n");
        replace(fs, dir, &dir.join("node.tmp"), &path, bytes.as_bytes())
            .map_err(JournalError::io("write", &path))?;
    }
    Ok(node)
}

fn read_text(fs: &dyn Filesystem, path: &Path) -> Option<String> {
    let file = again(|| fs.open_read(path)).ok()?;
    let mut bytes = vec![0; 2 * NODE_BYTES_MAX];
    let read = read_full_at(&*file, &mut bytes, 0).ok()?;
    bytes.truncate(read);
    String::from_utf8(bytes).ok()
}

/// Above every epoch seen. Where the state is lost, or the folder is new under a name that had one
/// before, the platform knows streams of epochs that are unknown here; seconds since 1970 are above
/// them all, since every start raises the epoch by one only.
fn next_epoch(recovery: &Recovery, now: Timestamp) -> u64 {
    let next = recovery.epoch_seen + 1;
    if recovery.previous.is_some() {
        return next;
    }
    next.max(u64::try_from(now.0 / 1_000_000).unwrap_or(0))
}

fn tell(
    recovery: &mut Recovery,
    options: &JournalOptions,
    node: &NodeId,
    epoch: u64,
    now: Now,
    boot_id: &str,
) -> Recovered {
    let clean = recovery.previous.as_ref().is_some_and(|state| state.clean);
    let power_cut = recovery.previous.as_ref().is_some_and(|state| {
        let same_boot = !boot_id.is_empty() && state.boot_id == boot_id;
        !state.clean && !state.durable && !same_boot
    });
    let lost_span = power_cut.then_some(LostSpan {
        // Ticks run on wall time's scale.
        from: Timestamp(i64::try_from(recovery.synced_at).unwrap_or(i64::MAX)),
        to: now.wall,
    });
    if let Some(span) = lost_span {
        tracing::warn!(from = %span.from, to = %span.to, dir = %options.dir.display(),
            "the machine stopped; entries of this span may be lost");
    }
    for torn in &recovery.damage.torn {
        tracing::warn!(
            file = torn.file,
            offset = torn.offset,
            bytes = torn.bytes,
            "torn journal tail cut off"
        );
    }
    for spot in &recovery.damage.spots {
        tracing::error!(file = spot.file, offset = spot.offset, bytes = spot.bytes,
            missing = spot.missing, kind = ?spot.kind, "journal damage");
    }
    Recovered {
        node: node.clone(),
        epoch,
        fresh: recovery.fresh,
        clean,
        checkpoint: recovery.checkpoint.take(),
        entries: std::mem::take(&mut recovery.entries),
        unfinished: recovery.unfinished(),
        damage: recovery.damage.clone(),
        lost_span,
        last_tick: Ticks(recovery.last_tick),
        complete: recovery.complete,
    }
}

/// Cuts torn tails and removes what was never used. What fails here is tried at the next start.
fn tidy(fs: &dyn Filesystem, dir: &Path, recovery: &Recovery) {
    for (path, length) in &recovery.cuts {
        let cut = again(|| {
            let file = fs.open(path)?;
            file.truncate(*length)?;
            file.sync_all()
        });
        if let Err(error) = cut {
            tracing::warn!(%error, file = %path.display(), "cannot cut a torn tail");
        }
    }
    for path in &recovery.unused {
        if let Err(error) = again(|| fs.remove(path)) {
            tracing::warn!(%error, file = %path.display(), "cannot remove an unused segment");
        }
    }
    if let Err(error) = again(|| fs.sync_dir(dir)) {
        tracing::warn!(%error, dir = %dir.display(), "cannot sync the journal's folder");
    }
}

fn build(
    fs: Arc<dyn Filesystem>,
    options: JournalOptions,
    threads: u16,
    clock: Arc<dyn Clock>,
    recovery: Recovery,
    (node, epoch, boot_id): (NodeId, u64, String),
) -> Arc<Shared> {
    let mut streams = recovery.streams;
    let mut live = Vec::new();
    for thread in 0..threads {
        let id = StreamId {
            node: node.clone(),
            epoch,
            thread,
        };
        let stream = Arc::new(Stream::new(id.clone(), Vec::new(), 0));
        streams.insert(id, Arc::clone(&stream));
        live.push(Arc::new(LiveStream::new(stream)));
    }
    let disk = DiskBudget::new(
        options.disk_bytes_max,
        recovery.disk_bytes,
        recovery.checkpoints.disk_bytes(),
    );
    let began_at = clock.now().ticks;
    let shared = Shared {
        fs,
        clock,
        node,
        epoch,
        boot_id,
        live,
        streams: RwLock::new(streams),
        disk,
        ledger: Mutex::new(recovery.ledger),
        state: Mutex::new(recovery.state),
        checkpoints: Mutex::new(recovery.checkpoints),
        covers: RwLock::new(recovery.covers),
        unfinished: crate::checkpoint::OpenProgress::default(),
        damage: DamageBook::new(recovery.damage),
        round: Mutex::new(()),
        signal: Signal::default(),
        progress: watch::Sender::new(0),
        // Nothing of this life was appended before it began.
        synced_at: AtomicU64::new(began_at.0),
        lock: Mutex::new(None),
        options,
    };
    for (id, payload) in recovery.open {
        shared.unfinished.insert(&id, payload);
    }
    Arc::new(shared)
}

impl Shared {
    fn close(&self) -> Result<(), JournalError> {
        if lock(&self.lock).is_none() {
            return Ok(());
        }
        self.round(true);
        let mut whole = true;
        for live in &self.live {
            whole &= live.seal(self);
        }
        let dir = &self.options.dir;
        let stored = self.store_ledger(&mut lock(&self.ledger));
        let state = State {
            epoch: self.epoch,
            node: self.node.as_str().to_owned(),
            boot_id: self.boot_id.clone(),
            durable: self.options.sync == SyncMode::Durable,
            clean: whole && stored.is_ok(),
            last_tick: self.clock.now().ticks.0,
        };
        let state = state.encode_to_vec();
        let stored = stored.and_then(|()| lock(&self.state).store(&*self.fs, dir, &state));
        drop(lock(&self.lock).take());
        stored.map_err(JournalError::io("write the end of", dir))?;
        if whole {
            Ok(())
        } else {
            Err(JournalError::NotWritten)
        }
    }
}

impl LiveStream {
    /// No further entries. Whether everything is on disk.
    fn seal(&self, shared: &Shared) -> bool {
        let mut inner = lock(&self.inner);
        inner.closed = true;
        let whole = !inner.failed && inner.waiting.bytes.is_empty();
        self.state.send_modify(|state| state.failed = true);
        for spare in inner.spares.drain(..) {
            shared.discard(&spare.path, shared.options.segment_bytes);
        }
        if let Some(active) = inner.active.take() {
            sync::give_back_tails(shared, &[active]);
        }
        if whole {
            let sealed = Sealed {
                totals: inner.totals,
                last_tick: inner.last_tick,
            };
            // A stream is sealed once; a second time changes nothing.
            self.stream.sealed.get_or_init(|| sealed);
        }
        self.publish_streams(shared);
        whole
    }

    /// A stream without entries is not worth a line in the ledger.
    fn publish_streams(&self, shared: &Shared) {
        if self.stream.written() == 0 && self.stream.segments().is_empty() {
            shared
                .streams
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&self.stream.id);
        }
    }
}
