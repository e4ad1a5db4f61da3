//! Reading streams back: for shipping, for proof. Never in a writer's way: reads are positional
//! and go only as far as the kernel has whole records.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use tollgate_model::{NodeId, Sequence, StreamId};

use crate::range::Ranges;
use crate::shared::{Shared, lock};
use crate::stream::Stream;
use crate::wire::{LedgerStream, TotalsMessage};
use crate::{DamageReport, OutcomeTotals, Range, ReadError};

/// A stream and how far it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Which.
    pub id: StreamId,
    /// First sequence that is kept.
    pub first: Sequence,
    /// One beyond the last entry written.
    pub next: Sequence,
    /// First sequence not confirmed as shipped, as far as this journal was told.
    pub shipped: Sequence,
    /// Whether it may still grow.
    pub live: bool,
}

/// A stream's running totals up to `next`, deleted entries included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamTotals {
    /// Which; `None` for the sum of streams so old that they are no longer listed.
    pub id: Option<StreamId>,
    /// One beyond the last entry counted.
    pub next: Sequence,
    /// The totals.
    pub totals: OutcomeTotals,
}

impl StreamTotals {
    /// Of a stream whose segments are all deleted.
    pub(crate) fn of_gone(gone: &LedgerStream) -> Self {
        let id = StreamId {
            node: NodeId::new(&gone.node),
            epoch: gone.epoch,
            thread: gone.thread as u16,
        };
        let totals = gone.totals.as_ref().map(TotalsMessage::read);
        Self {
            id: Some(id),
            next: Sequence(gone.next),
            totals: totals.unwrap_or_default(),
        }
    }
}

impl StreamInfo {
    pub(crate) fn of(stream: &Stream) -> Self {
        Self {
            id: stream.id.clone(),
            first: Sequence(stream.kept_from()),
            next: Sequence(stream.written()),
            shipped: Sequence(stream.shipped()),
            live: stream.sealed.get().is_none(),
        }
    }
}

/// Reads every stream of the journal's folder. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
    ranges: Arc<Ranges>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let ranges = Arc::new(Ranges::new(Arc::clone(&shared.fs)));
        Self { shared, ranges }
    }

    /// This life: the epoch of the streams that are being written.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Every stream with entries that are kept, and the live ones; oldest epoch first.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamInfo> {
        let streams = self.shared.all_streams();
        let mut streams: Vec<StreamInfo> = streams.iter().map(|s| StreamInfo::of(s)).collect();
        streams.sort_by_key(|stream| (stream.id.epoch, stream.id.thread));
        streams
    }

    /// Running totals of every stream ever, deleted ones too; each is of one moment.
    #[must_use]
    pub fn totals(&self) -> Vec<StreamTotals> {
        let ledger = lock(&self.shared.ledger);
        let mut all = Vec::new();
        if ledger.retired_streams > 0 {
            all.push(StreamTotals {
                id: None,
                next: Sequence(0),
                totals: ledger.retired,
            });
        }
        all.extend(ledger.gone.iter().map(StreamTotals::of_gone));
        let streams = self.shared.all_streams();
        drop(ledger);
        all.extend(streams.iter().map(|stream| self.totals_of(stream)));
        all
    }

    fn totals_of(&self, stream: &Stream) -> StreamTotals {
        let live = self.shared.live.iter();
        let mut live = live.filter(|live| live.stream.id == stream.id);
        let (next, totals) = match (stream.sealed.get(), live.next()) {
            (None, Some(live)) => {
                let inner = lock(&live.inner);
                (inner.next, inner.totals)
            }
            (sealed, _) => (
                stream.written(),
                sealed.map(|sealed| sealed.totals).unwrap_or_default(),
            ),
        };
        StreamTotals {
            id: Some(stream.id.clone()),
            next: Sequence(next),
            totals,
        }
    }

    /// One beyond the last entry of a stream that is on disk. What follows is in the kernel, and
    /// gone if the machine stops.
    #[must_use]
    pub fn synced(&self, stream: &StreamId) -> Sequence {
        let mut live = self.shared.live.iter();
        let live = live.find(|live| live.stream.id == *stream);
        match (self.shared.find_stream(stream), live) {
            (Some(_), Some(live)) => Sequence(live.state.borrow().synced),
            (Some(stream), _) => Sequence(stream.written()),
            (None, _) => Sequence(0),
        }
    }

    /// Tells of new entries: the value changes within a sync interval of their being written.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.progress.subscribe()
    }

    /// All that was found broken since the journal was opened.
    #[must_use]
    pub fn damage(&self) -> DamageReport {
        self.shared.damage.report()
    }

    /// The platform has everything before `next`. May fall, when it was restored from a backup.
    pub fn shipped(&self, stream: &StreamId, next: Sequence) {
        if let Some(stream) = self.shared.find_stream(stream) {
            stream.shipped.store(next.0, Ordering::Release);
        }
    }

    /// Entries from `from` on, until `events_max` of them or `bytes_max` bytes are reached (one
    /// entry in any case) or no more are written. Beyond the end the range is empty.
    ///
    /// # Errors
    /// [`ReadError`]. Damaged bytes are none: they are skipped, counted and reported.
    pub fn read(
        &self,
        stream: &StreamId,
        from: Sequence,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Range, ReadError> {
        let Some(stream) = self.shared.find_stream(stream) else {
            return Err(ReadError::UnknownStream(stream.clone()));
        };
        let damage = &self.shared.damage;
        self.ranges
            .read(&stream, damage, from, events_max, bytes_max)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
