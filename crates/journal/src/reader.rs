//! Reading streams back: for shipping, for proof. Never in a writer's way: reads are positional
//! and go only as far as the kernel has whole records.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tollgate_model::{Sequence, StreamId};

use crate::damage::{DamageKind, DamageSpot, file_name};
use crate::frame::{FrameHead, Kind};
use crate::fs::again;
use crate::scan::{Scan, Step, Tail};
use crate::segment::HEADER_BYTES;
use crate::shared::{Shared, lock};
use crate::stream::{Segment, Stream};
use crate::wire::{TotalsMessage, decode_event, decode_grant};
use crate::{DamageReport, Entry, ReadError, Totals};

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
    pub totals: Totals,
}

/// A part of a stream. Between the same two sequences it is always the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// Where it begins, as asked.
    pub first: Sequence,
    /// Where the next range begins.
    pub next: Sequence,
    /// The entries, rising.
    pub entries: Vec<(Sequence, Entry)>,
    /// Entries inside that cannot be read; they are in the damage report.
    pub missing: u64,
    /// Bytes of the entries' records.
    pub bytes: usize,
}

/// Where the last read of a stream stopped.
struct Cursor {
    segment: Arc<Segment>,
    scan: Scan,
}

/// Reads every stream of the journal's folder. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
    cursors: Arc<Mutex<HashMap<StreamId, Cursor>>>,
}

/// How much a read may still take.
struct Left {
    events: usize,
    bytes: usize,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            cursors: Arc::default(),
        }
    }

    /// Every stream with entries that are kept, and the live ones; oldest epoch first.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamInfo> {
        let info = |stream: Arc<Stream>| StreamInfo {
            id: stream.id.clone(),
            first: Sequence(stream.kept_from()),
            next: Sequence(stream.written()),
            shipped: Sequence(stream.shipped()),
            live: stream.sealed.get().is_none(),
        };
        let mut streams: Vec<StreamInfo> =
            self.shared.all_streams().into_iter().map(info).collect();
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
        all.extend(ledger.gone.iter().map(|gone| {
            StreamTotals {
                id: Some(StreamId {
                    node: tollgate_model::NodeId::new(&gone.node),
                    epoch: gone.epoch,
                    thread: gone.thread as u16,
                }),
                next: Sequence(gone.next),
                totals: gone
                    .totals
                    .as_ref()
                    .map(TotalsMessage::read)
                    .unwrap_or_default(),
            }
        }));
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
        if from.0 < stream.kept_from() {
            return Err(ReadError::Deleted {
                first: Sequence(stream.kept_from()),
            });
        }
        let mut range = Range {
            first: from,
            next: from,
            entries: Vec::new(),
            missing: 0,
            bytes: 0,
        };
        let mut left = Left {
            events: events_max.max(1),
            bytes: bytes_max.max(1),
        };
        while left.events > 0 && left.bytes > 0 && range.next.0 < stream.written() {
            self.read_segment(&stream, &mut range, &mut left)?;
        }
        Ok(range)
    }

    /// What the range still wants of the segment that holds `range.next`.
    fn read_segment(
        &self,
        stream: &Stream,
        range: &mut Range,
        left: &mut Left,
    ) -> Result<(), ReadError> {
        let Some((segment, upper)) = stream.find(range.next.0) else {
            // Nothing holds it: its segment is gone. Go on where something is kept.
            let first = stream.segments().iter().map(|segment| segment.first).min();
            let next = first.unwrap_or(u64::MAX).min(stream.written());
            range.missing += next.saturating_sub(range.next.0);
            range.next = Sequence(next.max(range.next.0 + 1));
            return Ok(());
        };
        let failed = |source| ReadError::Io {
            path: segment.path.clone(),
            source,
        };
        let mut cursor = self
            .cursor(stream, &segment, range.next.0)
            .map_err(failed)?;
        while left.events > 0 && left.bytes > 0 && range.next.0 < upper {
            match cursor.scan.step().map_err(failed)? {
                // Before the range, or skipped meanwhile.
                Step::Record(head) if head.sequence < range.next.0 => {}
                Step::Record(head) if head.sequence >= upper => {
                    self.skip(range, upper, &segment, cursor.scan.position(), 0);
                    return Ok(());
                }
                Step::Record(head) => self.take(range, left, &cursor, head),
                Step::Hole {
                    offset,
                    bytes,
                    missing,
                } => {
                    let to = cursor.scan.expected().min(upper);
                    if to > range.next.0 && missing > 0 {
                        self.skip(range, to, &segment, offset, bytes);
                    }
                }
                Step::End(tail) => {
                    let bytes = match tail {
                        Tail::Clean => 0,
                        Tail::Torn(bytes) | Tail::Unreadable(bytes) => bytes,
                    };
                    self.skip(range, upper, &segment, cursor.scan.position(), bytes);
                    return Ok(());
                }
            }
        }
        lock(&self.cursors).insert(stream.id.clone(), cursor);
        Ok(())
    }

    /// Goes on where the last read stopped, if that is here; else at the segment's beginning.
    fn cursor(
        &self,
        stream: &Stream,
        segment: &Arc<Segment>,
        from: u64,
    ) -> std::io::Result<Cursor> {
        let end = segment.end.load(Ordering::Acquire);
        let kept = lock(&self.cursors).remove(&stream.id);
        if let Some(mut cursor) = kept
            && Arc::ptr_eq(&cursor.segment, segment)
            && cursor.scan.expected() <= from
        {
            cursor.scan.extend_to(end);
            return Ok(cursor);
        }
        let file = again(|| self.shared.fs.open_read(&segment.path))?;
        let scan = Scan::new(file, stream.salt, HEADER_BYTES as u64, end, segment.first);
        Ok(Cursor {
            segment: Arc::clone(segment),
            scan,
        })
    }

    fn take(&self, range: &mut Range, left: &mut Left, cursor: &Cursor, head: FrameHead) {
        let payload = cursor.scan.payload();
        let entry = match head.kind {
            Kind::Event => decode_event(payload)
                .ok()
                .map(|(event, charges)| Entry::Event { event, charges }),
            Kind::Progress => decode_event(payload)
                .ok()
                .map(|(event, charges)| Entry::Progress { event, charges }),
            Kind::Grant => decode_grant(payload).ok().map(Entry::Grant),
            Kind::Unknown => None,
        };
        range.next = Sequence(head.sequence + 1);
        range.bytes += head.bytes;
        left.bytes = left.bytes.saturating_sub(head.bytes);
        if let Some(entry) = entry {
            left.events = left.events.saturating_sub(1);
            range.entries.push((Sequence(head.sequence), entry));
            return;
        }
        range.missing += 1;
        self.shared.damage.add(DamageSpot {
            file: file_name(&cursor.segment.path),
            offset: cursor.scan.position() - head.bytes as u64,
            bytes: head.bytes as u64,
            missing: 1,
            kind: DamageKind::Unknown,
        });
    }

    fn skip(&self, range: &mut Range, to: u64, segment: &Segment, offset: u64, bytes: u64) {
        let missing = to.saturating_sub(range.next.0);
        range.missing += missing;
        range.next = Sequence(to.max(range.next.0));
        self.shared.damage.add(DamageSpot {
            file: file_name(&segment.path),
            offset,
            bytes,
            missing,
            kind: if bytes > 0 {
                DamageKind::Record
            } else {
                DamageKind::Missing
            },
        });
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}
