//! A stream that is being written: one gateway thread appends, the sync thread syncs.
//!
//! Invariants. A record is in `waiting` or `syncing` from its append until a sync has covered it,
//! so whatever the disk does, it can be written again. `written` moves only after the kernel took
//! a record whole. A file on which a write or sync failed is never written again.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tollgate_model::{Outcome, Sequence, Ticks};

use crate::frame::{self, Kind};
use crate::fs::{FileHandle, write_all_at};
use crate::segment::{HEADER_BYTES, SegmentName};
use crate::shared::{Shared, lock};
use crate::stream::{Segment, Stream};
use crate::{JournalFull, NotWritten, OutcomeTotals};

/// Most bytes that the end of a segment is counted on to waste, because a record does not span
/// segments; a part of the segment where segments are small.
const WASTE_BYTES_MAX: u64 = 64 * 1024;

/// A segment allocated beforehand.
pub(crate) struct Spare {
    pub name: SegmentName,
    pub path: PathBuf,
    pub file: Arc<dyn FileHandle>,
}

/// The segment that is appended to, or one that was and is not synced yet.
#[derive(Clone)]
pub(crate) struct Active {
    pub segment: Arc<Segment>,
    pub file: Arc<dyn FileHandle>,
    pub offset: u64,
}

/// Records in a row, with what is needed to write them anew.
#[derive(Default)]
pub(crate) struct Batch {
    pub bytes: Vec<u8>,
    /// Of all events before it.
    pub totals: OutcomeTotals,
}

/// How far a stream is on disk; what `Writer::synced` waits on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SyncState {
    /// One beyond the last entry on disk.
    pub synced: u64,
    /// The disk failed, or the journal is closed.
    pub failed: bool,
}

pub(crate) struct Inner {
    pub active: Option<Active>,
    pub spares: VecDeque<Spare>,
    /// Sequence of the next record.
    pub next: u64,
    /// Of all events appended.
    pub totals: OutcomeTotals,
    pub last_tick: Ticks,
    /// Appended since the last sync began; while the disk fails, everything not on disk.
    pub waiting: Batch,
    /// What the running sync covers.
    pub syncing: Batch,
    /// Full segments that no sync has covered yet.
    pub retired: Vec<Active>,
    pub failed: bool,
    /// Why no further segment could be had; cleared once one is.
    pub full: Option<JournalFull>,
    pub closed: bool,
    pub next_index: u64,
    /// The highest index that came into use.
    pub used_index: u64,
}

pub(crate) struct LiveStream {
    pub stream: Arc<Stream>,
    pub inner: Mutex<Inner>,
    /// Bytes held by rooms.
    pub reserved: Arc<AtomicU64>,
    pub state: watch::Sender<SyncState>,
    /// Whether its writer was given out.
    pub taken: AtomicBool,
}

/// What an appended record means beyond its bytes.
pub(crate) enum Tally<'a> {
    Event {
        id: &'a str,
        outcome: Outcome,
        units: u64,
    },
    Progress {
        id: &'a str,
        payload: &'a [u8],
    },
    Grant,
}

impl LiveStream {
    pub(crate) fn new(stream: Arc<Stream>) -> Self {
        Self {
            stream,
            inner: Mutex::new(Inner {
                active: None,
                spares: VecDeque::new(),
                next: 0,
                totals: OutcomeTotals::default(),
                last_tick: Ticks(0),
                waiting: Batch::default(),
                syncing: Batch::default(),
                retired: Vec::new(),
                failed: false,
                full: None,
                closed: false,
                next_index: 0,
                used_index: 0,
            }),
            reserved: Arc::new(AtomicU64::new(0)),
            state: watch::Sender::new(SyncState::default()),
            taken: AtomicBool::new(false),
        }
    }

    /// Holds `bytes` of segment space, or says why there is none.
    pub(crate) fn reserve(&self, shared: &Shared, bytes: u64) -> Result<(), JournalFull> {
        let segment_bytes = shared.options.segment_bytes;
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(JournalFull::Closed);
        }
        if inner.failed {
            return Err(JournalFull::Failed);
        }
        if bytes > usable_bytes(segment_bytes) {
            return Err(JournalFull::TooLarge);
        }
        let unsynced = inner.waiting.bytes.len() + inner.syncing.bytes.len();
        if unsynced as u64 > shared.options.unsynced_bytes_max {
            return Err(JournalFull::SyncBehind);
        }
        let wanted = self.reserved.load(Ordering::Relaxed).saturating_add(bytes);
        while inner.free_bytes(segment_bytes) < wanted {
            // The sync thread keeps a spare ready and tries again after a failure; here only what
            // it was too slow for is made good.
            if let Some(reason) = inner.full {
                return Err(reason);
            }
            let index = inner.take_index();
            match self.allocate(shared, index, 0) {
                Ok(spare) => inner.spares.push_back(spare),
                Err(reason) => {
                    inner.set_full(reason);
                    return Err(reason);
                }
            }
        }
        self.reserved.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Finishes the record and appends it with one write.
    pub(crate) fn append(
        &self,
        shared: &Shared,
        frame: &mut [u8],
        kind: Kind,
        tally: &Tally<'_>,
    ) -> Result<(), NotWritten> {
        if frame.len() as u64 > shared.options.segment_bytes - HEADER_BYTES as u64 {
            return Err(NotWritten::TooLarge);
        }
        let mut inner = lock(&self.inner);
        if inner.closed {
            return Err(NotWritten::Closed);
        }
        let before = inner.totals;
        let sequence = inner.next;
        inner.next += 1;
        // Read under the lock: a sync that begins later than this tick covers the record, so that
        // no span of a power cut begins behind what it lost.
        let at = shared.clock.now().ticks;
        let salt = self.stream.salt;
        frame::finish(frame, salt, kind, sequence, at, shared.synced_at());
        inner.last_tick = inner.last_tick.max(at);
        inner.waiting.bytes.extend_from_slice(frame);
        if let Tally::Event { outcome, units, .. } = tally {
            inner.totals.add(*outcome, *units);
        }
        if !inner.failed {
            match self.write(shared, &mut inner, frame, sequence, &before) {
                Ok(()) => {
                    note(shared, tally);
                    return Ok(());
                }
                Err(error) => self.fail(&mut inner, &error),
            }
        }
        Err(NotWritten::Waiting {
            sequence: Sequence(sequence),
        })
    }

    fn write(
        &self,
        shared: &Shared,
        inner: &mut Inner,
        frame: &[u8],
        sequence: u64,
        before: &OutcomeTotals,
    ) -> io::Result<()> {
        let length = frame.len() as u64;
        let fits = |active: &Active| active.offset + length <= shared.options.segment_bytes;
        if let Some(active) = inner.active.take_if(|active| !fits(active)) {
            inner.retired.push(active);
        }
        if let Some(active) = &inner.active {
            let error = match write_all_at(&*active.file, frame, active.offset) {
                Ok(()) => return self.wrote(inner, length, sequence),
                Err(error) => error,
            };
            tracing::error!(%error, file = %active.segment.path.display(),
                "journal write failed; going on in a fresh segment");
            inner.retired.extend(inner.active.take());
        }
        let fresh = self.fresh(shared, inner, sequence, before)?;
        let result = write_all_at(&*fresh.file, frame, fresh.offset);
        inner.active = Some(fresh);
        result?;
        self.wrote(inner, length, sequence)
    }

    fn wrote(&self, inner: &mut Inner, length: u64, sequence: u64) -> io::Result<()> {
        if let Some(active) = &mut inner.active {
            active.offset += length;
            active.segment.end.store(active.offset, Ordering::Release);
            let tick = inner.last_tick.0;
            active.segment.last_tick.store(tick, Ordering::Relaxed);
        }
        self.stream.written.store(sequence + 1, Ordering::Release);
        Ok(())
    }

    pub(crate) fn fail(&self, inner: &mut Inner, error: &io::Error) {
        if !inner.failed {
            tracing::error!(%error, thread = self.stream.id.thread,
                "the journal's disk fails; entries wait in memory");
        }
        inner.failed = true;
        inner.retired.extend(inner.active.take());
        self.state.send_modify(|state| state.failed = true);
    }
}

impl Inner {
    pub(crate) fn take_index(&mut self) -> u64 {
        let index = self.next_index;
        self.next_index += 1;
        index
    }

    pub(crate) fn set_full(&mut self, reason: JournalFull) {
        if self.full != Some(reason) {
            tracing::error!(%reason, "the journal gets no further segment");
        }
        self.full = Some(reason);
    }

    fn free_bytes(&self, segment_bytes: u64) -> u64 {
        let waste = waste_bytes(segment_bytes);
        let left = |active: &Active| segment_bytes.saturating_sub(active.offset + waste);
        let active = self.active.as_ref().map_or(0, left);
        active + self.spares.len() as u64 * usable_bytes(segment_bytes)
    }
}

fn waste_bytes(segment_bytes: u64) -> u64 {
    WASTE_BYTES_MAX.min(segment_bytes / 8)
}

/// Bytes of an empty segment that rooms may hold.
pub(crate) fn usable_bytes(segment_bytes: u64) -> u64 {
    segment_bytes.saturating_sub(HEADER_BYTES as u64 + waste_bytes(segment_bytes))
}

/// Runs under the stream's lock, so that a sync which covers the record comes after it.
pub(crate) fn note(shared: &Shared, tally: &Tally<'_>) {
    match tally {
        Tally::Event { id, .. } => shared.unfinished.remove(id),
        Tally::Progress { id, payload } => shared.unfinished.insert(id, payload.to_vec()),
        Tally::Grant => {}
    }
}
