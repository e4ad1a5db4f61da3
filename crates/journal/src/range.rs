//! Reading ranges of a stream's segments; positional, and only as far as the stream says it is
//! written. Whoever reads on where the last read stopped does not go through a segment again.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tollgate_model::{Sequence, StreamId};

use crate::damage::{DamageBook, DamageKind, DamageSpot, file_name};
use crate::frame::{FrameHead, Kind};
use crate::fs::{Filesystem, read_again};
use crate::scan::{Scan, Step, Tail};
use crate::segment::HEADER_BYTES;
use crate::shared::lock;
use crate::stream::{Segment, Stream};
use crate::wire::{decode_event, decode_grant};
use crate::{Entry, ReadError};

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

/// Reads ranges, and remembers by stream where it stopped.
pub(crate) struct Ranges {
    fs: Arc<dyn Filesystem>,
    cursors: Mutex<HashMap<StreamId, Cursor>>,
}

/// A read that is going on.
struct Pass<'a> {
    ranges: &'a Ranges,
    stream: &'a Stream,
    damage: &'a DamageBook,
    range: Range,
    /// How much it may still take.
    left: Left,
}

struct Left {
    events: usize,
    bytes: usize,
}

impl Ranges {
    pub(crate) fn new(fs: Arc<dyn Filesystem>) -> Self {
        Self {
            fs,
            cursors: Mutex::default(),
        }
    }

    /// As [`crate::Reader::read`].
    pub(crate) fn read(
        &self,
        stream: &Stream,
        damage: &DamageBook,
        from: Sequence,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Range, ReadError> {
        if from.0 < stream.kept_from() {
            return Err(ReadError::Deleted {
                first: Sequence(stream.kept_from()),
            });
        }
        let range = Range {
            first: from,
            next: from,
            entries: Vec::new(),
            missing: 0,
            bytes: 0,
        };
        let left = Left {
            events: events_max.max(1),
            bytes: bytes_max.max(1),
        };
        let mut pass = Pass {
            ranges: self,
            stream,
            damage,
            range,
            left,
        };
        while pass.wants_more(stream.written()) {
            pass.read_segment()?;
        }
        Ok(pass.range)
    }
}

impl Pass<'_> {
    fn wants_more(&self, upper: u64) -> bool {
        self.left.events > 0 && self.left.bytes > 0 && self.range.next.0 < upper
    }

    /// What the range still wants of the segment that holds `range.next`.
    fn read_segment(&mut self) -> Result<(), ReadError> {
        let stream = self.stream;
        let Some((segment, upper)) = stream.find(self.range.next.0) else {
            // Nothing holds it: its segment is gone. Go on where something is kept.
            let first = stream.segments().iter().map(|segment| segment.first).min();
            let next = first.unwrap_or(u64::MAX).min(stream.written());
            self.range.missing += next.saturating_sub(self.range.next.0);
            self.range.next = Sequence(next.max(self.range.next.0));
            return Ok(());
        };
        let failed = |source| ReadError::Io {
            path: segment.path.clone(),
            source,
        };
        let mut cursor = self.cursor(&segment).map_err(failed)?;
        while self.wants_more(upper) {
            match cursor.scan.step().map_err(failed)? {
                // Before the range, or skipped meanwhile.
                Step::Record(head) if head.sequence < self.range.next.0 => {}
                Step::Record(head) if head.sequence >= upper => {
                    self.skip(upper, &segment, cursor.scan.position(), 0);
                    return Ok(());
                }
                Step::Record(head) => self.take(&cursor, head),
                Step::Hole { offset, bytes, .. } => {
                    let to = cursor.scan.expected().min(upper);
                    // Else it lies before the range.
                    if to > self.range.next.0 {
                        self.skip(to, &segment, offset, bytes);
                    }
                }
                Step::End(tail) => {
                    let bytes = match tail {
                        Tail::Clean => 0,
                        Tail::Torn(bytes) | Tail::Unreadable(bytes) => bytes,
                    };
                    self.skip(upper, &segment, cursor.scan.position(), bytes);
                    return Ok(());
                }
            }
        }
        // Nobody reads on at the end of a stream that has ended, and its file may go.
        let done = stream.sealed.get().is_some() && self.range.next.0 >= stream.written();
        if !done {
            lock(&self.ranges.cursors).insert(stream.id.clone(), cursor);
        }
        Ok(())
    }

    /// Goes on where the last read stopped, if that is here; else at the segment's beginning.
    fn cursor(&self, segment: &Arc<Segment>) -> std::io::Result<Cursor> {
        let end = segment.end.load(Ordering::Acquire);
        let kept = lock(&self.ranges.cursors).remove(&self.stream.id);
        if let Some(mut cursor) = kept
            && cursor.segment.path == segment.path
            && cursor.scan.expected() <= self.range.next.0
        {
            cursor.scan.extend_to(end);
            return Ok(cursor);
        }
        let file = read_again(|| self.ranges.fs.open_read(&segment.path))?;
        let start = HEADER_BYTES as u64;
        let scan = Scan::new(file, self.stream.salt, start, end, segment.first);
        Ok(Cursor {
            segment: Arc::clone(segment),
            scan,
        })
    }

    fn take(&mut self, cursor: &Cursor, head: FrameHead) {
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
        self.range.next = Sequence(head.sequence + 1);
        self.range.bytes += head.bytes;
        self.left.bytes = self.left.bytes.saturating_sub(head.bytes);
        if let Some(entry) = entry {
            self.left.events = self.left.events.saturating_sub(1);
            self.range.entries.push((Sequence(head.sequence), entry));
            return;
        }
        self.range.missing += 1;
        self.damage.add(DamageSpot {
            file: file_name(&cursor.segment.path),
            offset: cursor.scan.position() - head.bytes as u64,
            bytes: head.bytes as u64,
            missing: 1,
            kind: DamageKind::Unknown,
        });
    }

    fn skip(&mut self, to: u64, segment: &Segment, offset: u64, bytes: u64) {
        let missing = to.saturating_sub(self.range.next.0);
        self.range.missing += missing;
        self.range.next = Sequence(to.max(self.range.next.0));
        self.damage.add(DamageSpot {
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
