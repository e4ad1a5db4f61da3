//! Getting fresh segments, and writing again what a failing disk may have lost.
//!
//! After a failed write the record goes into a fresh segment. After a failed sync nothing written
//! since the last good one may be believed, whatever a second sync says; so all of it is written
//! from memory into fresh segments: records first, then a sync, then the headers from the last
//! segment to the first, then a sync. A header voids what earlier segments hold from its `first`
//! on, so wherever this is cut off, every entry is still held by some segment.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::frame::{self, Kind};
use crate::fs::{again, write_all_at};
use crate::live::{Active, Batch, Inner, LiveStream, Spare, Tally, note};
use crate::segment::{HEADER_BYTES, SegmentName, encode_header};
use crate::shared::{Shared, lock};
use crate::stream::Segment;
use crate::wire::{SegmentHeader, TotalsMessage, digest_event};
use crate::{JournalFull, OutcomeTotals};

/// A part of a batch that fits into one segment.
struct Chunk {
    bytes: Range<usize>,
    first: u64,
    totals: OutcomeTotals,
}

impl LiveStream {
    /// Makes a segment in full: whoever writes into it later finds the space there. `beyond` as in
    /// [`DiskBudget::take`](crate::shared::DiskBudget::take).
    pub(crate) fn allocate(
        &self,
        shared: &Shared,
        index: u64,
        beyond: u64,
    ) -> Result<Spare, JournalFull> {
        let bytes = shared.options.segment_bytes;
        let take = |beyond| shared.disk.take(bytes, beyond);
        if !(take(0) || shared.purge(Some(bytes)) && take(0) || take(beyond)) {
            return Err(JournalFull::DiskMax);
        }
        let name = SegmentName {
            epoch: self.stream.id.epoch,
            thread: self.stream.id.thread,
            index,
        };
        let path = name.path(&shared.options.dir);
        let made = (|| {
            let file = again(|| shared.fs.create(&path))?;
            again(|| file.allocate(bytes))?;
            again(|| file.sync_all())?;
            again(|| shared.fs.sync_dir(&shared.options.dir))?;
            Ok(file)
        })();
        made.map(|file| Spare {
            name,
            path: path.clone(),
            file,
        })
        .map_err(|error: io::Error| {
            tracing::debug!(%error, file = %path.display(), "cannot allocate a journal segment");
            shared.discard(&path, bytes);
            JournalFull::NoSpace
        })
    }

    fn spare(&self, shared: &Shared, inner: &mut Inner) -> io::Result<Spare> {
        let spare = match inner.spares.pop_front() {
            Some(spare) => spare,
            None => {
                let index = inner.take_index();
                // For what has its room already. Within the bound it might wait for ever: what is
                // not on disk keeps checkpoints back, and without these nothing may be deleted.
                let beyond = shared.options.repair_bytes_max();
                let made = self.allocate(shared, index, beyond);
                made.map_err(|_| io::ErrorKind::StorageFull)?
            }
        };
        inner.used_index = inner.used_index.max(spare.name.index);
        Ok(spare)
    }

    /// A segment to go on in, its header written.
    pub(crate) fn fresh(
        &self,
        shared: &Shared,
        inner: &mut Inner,
        first: u64,
        totals: &OutcomeTotals,
    ) -> io::Result<Active> {
        let mut left = inner.spares.len() + 1;
        loop {
            left -= 1;
            let spare = self.spare(shared, inner)?;
            let header = self.header(shared, spare.name, first, totals);
            match write_all_at(&*spare.file, &header, 0) {
                Ok(()) => {
                    let active = self.activate(shared, spare, first, totals);
                    self.stream.push_segment(Arc::clone(&active.segment));
                    return Ok(active);
                }
                Err(error) => {
                    shared.discard(&spare.path, shared.options.segment_bytes);
                    if left == 0 {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn header(
        &self,
        shared: &Shared,
        name: SegmentName,
        first: u64,
        totals: &OutcomeTotals,
    ) -> Vec<u8> {
        encode_header(&SegmentHeader {
            node: self.stream.id.node.as_str().to_owned(),
            epoch: name.epoch,
            thread: u32::from(name.thread),
            index: name.index,
            first,
            began_at: shared.clock.now().ticks.0,
            totals: Some(TotalsMessage::of(totals)),
        })
    }

    fn activate(
        &self,
        shared: &Shared,
        spare: Spare,
        first: u64,
        totals: &OutcomeTotals,
    ) -> Active {
        let header = HEADER_BYTES as u64;
        Active {
            segment: Arc::new(Segment {
                name: spare.name,
                path: spare.path,
                first,
                totals: Some(*totals),
                end: AtomicU64::new(header),
                disk_bytes: AtomicU64::new(shared.options.segment_bytes),
                last_tick: AtomicU64::new(shared.clock.now().ticks.0),
            }),
            file: spare.file,
            offset: header,
        }
    }

    /// Writes everything that is not surely on disk into fresh segments and syncs it. On an error
    /// nothing has changed but for the segments that were used up.
    pub(crate) fn rewrite(&self, shared: &Shared, inner: &mut Inner) -> io::Result<()> {
        let later = std::mem::take(&mut inner.waiting);
        let mut batch = std::mem::take(&mut inner.syncing);
        if batch.bytes.is_empty() {
            batch = later;
        } else {
            batch.bytes.extend_from_slice(&later.bytes);
        }
        let result = self.rewrite_batch(shared, inner, &batch);
        if result.is_ok() {
            self.note_all(shared, &batch);
            batch = Batch {
                bytes: Vec::new(),
                totals: inner.totals,
            };
            inner.failed = false;
            inner.retired.clear();
            self.stream.written.store(inner.next, Ordering::Release);
        }
        inner.waiting = batch;
        result
    }

    fn rewrite_batch(&self, shared: &Shared, inner: &mut Inner, batch: &Batch) -> io::Result<()> {
        inner.active = None;
        let mut written: Vec<(Active, Chunk)> = Vec::new();
        if let Err(error) = self.rewrite_chunks(shared, inner, batch, &mut written) {
            // From the first to the last: those that stay, should this be cut off, void only what
            // they hold themselves. Else every failed attempt would take more of the disk.
            for (active, _) in written {
                if !shared.discard(&active.segment.path, shared.options.segment_bytes) {
                    break;
                }
            }
            return Err(error);
        }
        for (active, _) in written {
            self.stream.push_segment(Arc::clone(&active.segment));
            inner.active = Some(active);
        }
        Ok(())
    }

    fn rewrite_chunks(
        &self,
        shared: &Shared,
        inner: &mut Inner,
        batch: &Batch,
        written: &mut Vec<(Active, Chunk)>,
    ) -> io::Result<()> {
        for chunk in self.cut(batch, shared.options.segment_bytes - HEADER_BYTES as u64) {
            let spare = self.spare(shared, inner)?;
            let bytes = batch.bytes.get(chunk.bytes.clone()).unwrap_or_default();
            let result = write_all_at(&*spare.file, bytes, HEADER_BYTES as u64)
                .and_then(|()| again(|| spare.file.sync_data()));
            if let Err(error) = result {
                shared.discard(&spare.path, shared.options.segment_bytes);
                return Err(error);
            }
            let mut active = self.activate(shared, spare, chunk.first, &chunk.totals);
            active.offset += bytes.len() as u64;
            active.segment.end.store(active.offset, Ordering::Release);
            written.push((active, chunk));
        }
        for (active, chunk) in written.iter().rev() {
            let header = self.header(shared, active.segment.name, chunk.first, &chunk.totals);
            write_all_at(&*active.file, &header, 0)?;
            again(|| active.file.sync_data())?;
        }
        Ok(())
    }

    fn frames<'a>(&self, batch: &'a Batch) -> impl Iterator<Item = (frame::FrameHead, &'a [u8])> {
        let salt = self.stream.salt;
        let mut rest = batch.bytes.as_slice();
        std::iter::from_fn(move || {
            let (head, payload) = frame::parse(salt, rest)?;
            rest = rest.get(head.bytes..).unwrap_or_default();
            Some((head, payload))
        })
    }

    fn cut(&self, batch: &Batch, chunk_bytes: u64) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut totals = batch.totals;
        let mut at = 0;
        for (head, payload) in self.frames(batch) {
            let end = at + head.bytes;
            match chunks.last_mut() {
                Some(chunk) if (end - chunk.bytes.start) as u64 <= chunk_bytes => {
                    chunk.bytes.end = end;
                }
                _ => chunks.push(Chunk {
                    bytes: at..end,
                    first: head.sequence,
                    totals,
                }),
            }
            if head.kind == Kind::Event
                && let Ok(digest) = digest_event(payload)
            {
                totals.add(digest.outcome, digest.units);
            }
            at = end;
        }
        chunks
    }

    fn note_all(&self, shared: &Shared, batch: &Batch) {
        for (head, payload) in self.frames(batch) {
            let Ok(digest) = digest_event(payload) else {
                continue;
            };
            let id = digest.id.as_str();
            match head.kind {
                Kind::Event => note(
                    shared,
                    &Tally::Event {
                        id,
                        outcome: digest.outcome,
                        units: digest.units,
                    },
                ),
                Kind::Progress => note(shared, &Tally::Progress { id, payload }),
                Kind::Grant | Kind::Unknown => {}
            }
        }
    }
}

impl Shared {
    /// Removes a segment that holds nothing that is needed, and gives its bytes back. Where that
    /// fails (`false`) it is tried again whenever segments are deleted, and at the next start.
    pub(crate) fn discard(&self, path: &std::path::Path, bytes: u64) -> bool {
        match again(|| self.fs.remove(path)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, file = %path.display(), "cannot remove a segment");
                lock(&self.doomed).push((path.to_owned(), bytes));
                return false;
            }
        }
        self.disk.give_back(bytes);
        true
    }
}
