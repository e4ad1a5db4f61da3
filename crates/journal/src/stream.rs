//! A stream as readers and retention see it: its segments and how far it is written and shipped.
//!
//! Invariant: of two segments that claim the same sequence the later one (by index) holds, and
//! both have the same bytes for it; so a rewritten range never changes what is read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use tollgate_model::{StreamId, Ticks};

use crate::OutcomeTotals;
use crate::frame::salt_of;
use crate::layout::{Head, Piece};
use crate::segment::SegmentName;
use crate::shared::lock;
use crate::wire::{LedgerStream, TotalsMessage};

/// One segment that came into use.
#[derive(Debug)]
pub(crate) struct Segment {
    pub name: SegmentName,
    pub path: PathBuf,
    /// Sequence of its first record.
    pub first: u64,
    /// Of all events before it, as its header has it.
    pub totals: Option<OutcomeTotals>,
    /// Bytes in use, header included.
    pub end: AtomicU64,
    /// Bytes it takes on disk.
    pub disk_bytes: AtomicU64,
    /// When the last record was appended.
    pub last_tick: AtomicU64,
}

impl Segment {
    /// As it was found on disk, `end` bytes of it in use.
    pub(crate) fn of(piece: Piece, end: u64, last_tick: u64) -> Self {
        Self {
            name: piece.file.name,
            path: piece.file.path,
            first: piece.first,
            totals: match &piece.file.head {
                Head::Good(header) => header.totals.as_ref().map(TotalsMessage::read),
                Head::Zero | Head::Bad => None,
            },
            end: AtomicU64::new(end),
            disk_bytes: AtomicU64::new(end),
            last_tick: AtomicU64::new(last_tick),
        }
    }
}

/// What is fixed when a stream ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealed {
    pub totals: OutcomeTotals,
    pub last_tick: Ticks,
}

/// One thread's journal in one life of the gateway.
#[derive(Debug)]
pub(crate) struct Stream {
    pub id: StreamId,
    pub salt: u32,
    segments: RwLock<Vec<Arc<Segment>>>,
    /// One beyond the last entry in the kernel.
    pub written: AtomicU64,
    /// First sequence the platform has not confirmed.
    pub shipped: AtomicU64,
    /// First sequence whose segment is kept.
    pub kept_from: AtomicU64,
    /// Of all events before `kept_from`, while the stream has not ended.
    pub kept_totals: Mutex<OutcomeTotals>,
    pub sealed: OnceLock<Sealed>,
}

impl Stream {
    pub(crate) fn new(id: StreamId, segments: Vec<Arc<Segment>>, written: u64) -> Self {
        Self {
            salt: salt_of(id.epoch, id.thread),
            id,
            segments: RwLock::new(segments),
            written: AtomicU64::new(written),
            shipped: AtomicU64::new(0),
            kept_from: AtomicU64::new(0),
            kept_totals: Mutex::default(),
            sealed: OnceLock::new(),
        }
    }

    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn push_segment(&self, segment: Arc<Segment>) {
        self.segments
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(segment);
    }

    pub(crate) fn drop_oldest(&self, count: usize) {
        let mut segments = self
            .segments
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let count = count.min(segments.len());
        segments.drain(..count);
    }

    /// The segment that holds a sequence, and the first sequence it does not hold any more.
    pub(crate) fn find(&self, sequence: u64) -> Option<(Arc<Segment>, u64)> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let mut upper = self.written();
        for segment in segments.iter().rev() {
            if segment.first <= sequence {
                return Some((Arc::clone(segment), upper));
            }
            upper = upper.min(segment.first);
        }
        None
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(crate) fn kept_from(&self) -> u64 {
        self.kept_from.load(Ordering::Acquire)
    }

    pub(crate) fn shipped(&self) -> u64 {
        self.shipped.load(Ordering::Acquire)
    }

    pub(crate) fn to_ledger(&self) -> LedgerStream {
        let sealed = self.sealed.get();
        let totals = sealed.map_or_else(|| *lock(&self.kept_totals), |sealed| sealed.totals);
        LedgerStream {
            node: self.id.node.as_str().to_owned(),
            epoch: self.id.epoch,
            thread: u32::from(self.id.thread),
            kept_from: self.kept_from(),
            shipped: self.shipped(),
            sealed: sealed.is_some(),
            next: if sealed.is_some() {
                self.written()
            } else {
                self.kept_from()
            },
            last_tick: sealed.map_or(0, |sealed| sealed.last_tick.0),
            totals: Some(TotalsMessage::of(&totals)),
        }
    }
}
