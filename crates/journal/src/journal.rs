//! Opening, holding and closing a journal.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use prost::Message;
use tollgate_model::{Clock, IdGen, NodeId, Now, ShardSnapshot};

use crate::fs::Filesystem;
use crate::live::LiveStream;
use crate::open::open;
use crate::shared::{Shared, Untold, lock};
use crate::stream::Sealed;
use crate::wire::State;
use crate::{
    DamageReport, JournalError, JournalFull, JournalOptions, Reader, Recovered, SyncMode, Writer,
    sync,
};

/// An open journal. Closing or dropping it syncs, seals and ends the sync thread; entries appended
/// afterwards are refused.
pub struct Journal {
    pub(crate) shared: Arc<Shared>,
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
        let (shared, recovered) = open(fs, options, threads, node_name, clock, ids)?;
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
        let (shared, recovered) = open(fs, options, threads, None, clock, ids)?;
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

impl Shared {
    /// `clean`: all that was appended is on disk. What a power cut may have taken before this life
    /// stays written down until it is surely told, however this life ends.
    fn store_state(&self, clean: bool, untold: Untold) -> std::io::Result<()> {
        let state = State {
            epoch: self.epoch,
            node: self.node.as_str().to_owned(),
            boot_id: self.boot_id.clone(),
            durable: self.options.sync == SyncMode::Durable,
            clean,
            last_tick: self.synced_at().0,
            lost_from: untold.lost_from,
            past_lost: untold.past_lost,
            ticks_at_boot: self.clock.ticks_at_boot().map(|ticks| ticks.0),
        };
        let bytes = state.encode_to_vec();
        lock(&self.state).store(&*self.fs, &self.options.dir, &bytes)
    }

    /// Whoever writes a checkpoint was told what a power cut may have taken.
    pub(crate) fn forget_untold(&self) {
        let mut untold = lock(&self.untold);
        let waits = untold.lost_from.is_some() || untold.past_lost;
        if waits && self.store_state(false, Untold::default()).is_ok() {
            *untold = Untold::default();
        }
    }

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
        let untold = *lock(&self.untold);
        let stored = stored.and_then(|()| self.store_state(whole, untold));
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
    pub(crate) fn seal(&self, shared: &Shared) -> bool {
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
        if self.stream.written() == 0 {
            shared
                .streams
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&self.stream.id);
        }
    }
}
