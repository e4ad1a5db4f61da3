//! One pass: everything that is in the journal when it begins, batch by batch.

use std::sync::atomic::Ordering;

use tollgate_model::{Sequence, StreamId};
use tollgate_store::{Entity, IngestedEvent, StoreError, StoreErrorKind};

use super::{Marks, Shipper};
use crate::source::blocking;
use crate::{Chunk, MeteringError, MeteringResult, StreamEnd};

/// More events refused in a row than this are the store's fault, not theirs.
const QUARANTINE_ROW_MAX: u32 = 16;
/// So often marks are read anew within one pass before the pass fails.
const CONFLICTS_MAX: u32 = 4;

/// What became of a batch.
enum Taken {
    /// The mark moved.
    Moved,
    /// Somebody else moved it: the range must be cut anew.
    Conflict,
    /// Nothing can be read behind the mark at present.
    Stuck,
}

impl Shipper {
    /// Ships everything that is in the journal when it begins.
    ///
    /// # Errors
    /// The store's or the journal's failure; what was taken in before it stays.
    pub async fn pass(&self) -> MeteringResult<()> {
        let mut marks = self.marks.lock().await;
        let result = self.pass_over(&mut marks).await;
        match &result {
            Ok(()) => {
                let now = self.clock.now().wall;
                self.status_mut(|status| {
                    status.caught_up_at = Some(now);
                    status.failing = None;
                });
            }
            Err(error) => {
                // What the store has now is not known.
                *marks = None;
                self.status_mut(|status| {
                    status.failures += 1;
                    status.failing = Some(error.to_string());
                });
            }
        }
        result
    }

    async fn pass_over(&self, known: &mut Option<Marks>) -> MeteringResult<()> {
        let mut marks = match known.take() {
            Some(marks) => marks,
            None => self.read_marks().await?,
        };
        let mut ends = self.ends().await?;
        ends.sort_by_key(|end| (end.stream.epoch, end.stream.thread));
        self.count_waiting(&ends, &marks);
        let mut failed = None;
        let mut rest = ends.as_slice();
        while let Some(first) = rest.first() {
            let epoch = first.stream.epoch;
            let of_epoch = rest.partition_point(|end| end.stream.epoch <= epoch);
            let (present, later) = rest.split_at(of_epoch);
            match self.drain(present, &mut marks).await {
                Err(error @ MeteringError::Source(_)) => failed = Some(error),
                drained => drained?,
            }
            rest = later;
        }
        self.count_waiting(&ends, &marks);
        *known = Some(marks);
        failed.map_or(Ok(()), Err)
    }

    /// Ships the streams of one epoch to their ends, batch by batch in turn. A stream whose files
    /// cannot be read is left for the next pass; the others go on.
    async fn drain(&self, ends: &[StreamEnd], marks: &mut Marks) -> MeteringResult<()> {
        let mut conflicts = 0;
        let mut failed = None;
        let mut open: Vec<&StreamEnd> = ends.iter().collect();
        while !open.is_empty() {
            let mut still_open = Vec::with_capacity(open.len());
            for end in open {
                let mark = marks.get(&end.stream).copied().unwrap_or_default();
                if mark >= end.end {
                    continue;
                }
                match self.ship_one(&end.stream, mark, marks).await {
                    Ok(Taken::Moved) => still_open.push(end),
                    Ok(Taken::Stuck) => tracing::debug!(?end, "nothing can be read there yet"),
                    Ok(Taken::Conflict) => {
                        conflicts += 1;
                        self.status_mut(|status| status.conflicts += 1);
                        if conflicts > CONFLICTS_MAX {
                            return Err(conflict().into());
                        }
                        *marks = self.read_marks().await?;
                        still_open.push(end);
                    }
                    Err(error @ MeteringError::Source(_)) => failed = Some(error),
                    Err(other) => return Err(other),
                }
            }
            open = still_open;
        }
        failed.map_or(Ok(()), Err)
    }

    /// Ships one batch from the mark.
    async fn ship_one(
        &self,
        stream: &StreamId,
        mark: Sequence,
        marks: &mut Marks,
    ) -> MeteringResult<Taken> {
        let chunk = self.read(stream, mark).await?;
        if chunk.next <= mark {
            return Ok(Taken::Stuck);
        }
        let next = match self.take(stream, mark, &chunk).await {
            Ok(next) => next,
            Err(error) if error.kind == StoreErrorKind::Conflict => return Ok(Taken::Conflict),
            Err(error) => return Err(error.into()),
        };
        marks.insert(stream.clone(), next);
        self.progress_mut(|progress| progress.marks.insert(stream.clone(), next));
        if chunk.unreadable > 0 && next == chunk.next {
            tracing::error!(
                ?stream,
                from = mark.0,
                next = next.0,
                "journal entries are unreadable"
            );
            self.status_mut(|status| status.unreadable += chunk.unreadable);
        }
        self.tell_shipped(stream, next).await;
        Ok(Taken::Moved)
    }

    /// Takes in as much of the chunk as the store accepts in one batch: all of it, but for events
    /// that it refuses for good. Answers where the mark stands then.
    async fn take(
        &self,
        stream: &StreamId,
        first: Sequence,
        chunk: &Chunk,
    ) -> Result<Sequence, StoreError> {
        let mut count = chunk.events.len();
        loop {
            let (part, next) = head(chunk, count);
            let refused = match self.ingest.take(stream, first, next, part.to_vec()).await {
                Ok(()) => {
                    if !part.is_empty() {
                        self.refused_in_row.store(0, Ordering::Relaxed);
                    }
                    self.status_mut(|status| {
                        status.shipped += part.len() as u64;
                        status.batches += 1;
                    });
                    return Ok(next);
                }
                Err(error) if is_poison(&error) && count > 0 => error,
                Err(error) => return Err(error),
            };
            if count > 1 {
                count /= 2;
                continue;
            }
            return self.quarantine(stream, first, next, part, refused).await;
        }
    }

    /// Moves the mark past an event that the store refuses. Where even that is refused, the event
    /// is not to blame.
    async fn quarantine(
        &self,
        stream: &StreamId,
        first: Sequence,
        next: Sequence,
        part: &[IngestedEvent],
        refused: StoreError,
    ) -> Result<Sequence, StoreError> {
        // A broken store would refuse one event after the other: then they stay in the journal.
        if self.refused_in_row.fetch_add(1, Ordering::Relaxed) >= QUARANTINE_ROW_MAX {
            return Err(refused);
        }
        self.ingest.take(stream, first, next, Vec::new()).await?;
        for taken in part {
            tracing::error!(
                ?stream, sequence = taken.sequence.0, id = ?taken.event.id, error = %refused,
                "an event was refused for good and is in no record"
            );
        }
        self.status_mut(|status| status.quarantined += part.len() as u64);
        Ok(next)
    }

    /// The marks of all of this gateway's streams; the journal is told of them.
    async fn read_marks(&self) -> MeteringResult<Marks> {
        let found = self.store.high_water_marks(&self.source.node()).await?;
        let mut marks = Marks::new();
        for mark in found {
            self.tell_shipped(&mark.stream, mark.next).await;
            marks.insert(mark.stream, mark.next);
        }
        self.progress_mut(|progress| progress.marks.clone_from(&marks));
        Ok(marks)
    }

    pub(super) async fn ends(&self) -> MeteringResult<Vec<StreamEnd>> {
        let source = self.source.clone();
        blocking(move || source.streams()).await
    }

    async fn read(&self, stream: &StreamId, from: Sequence) -> MeteringResult<Chunk> {
        let (source, stream) = (self.source.clone(), stream.clone());
        let (events, bytes) = (self.options.batch_events_max, self.options.batch_bytes_max);
        blocking(move || source.read(&stream, from, events, bytes)).await
    }

    /// A journal that cannot note what was shipped keeps more than it needs; nothing is wrong.
    async fn tell_shipped(&self, stream: &StreamId, next: Sequence) {
        let (source, stream) = (self.source.clone(), stream.clone());
        if let Err(error) = blocking(move || source.shipped(&stream, next)).await {
            tracing::warn!(%error, "the journal did not note what was shipped");
        }
    }

    fn count_waiting(&self, ends: &[StreamEnd], marks: &Marks) {
        let waiting = ends
            .iter()
            .map(|end| {
                let mark = marks.get(&end.stream).copied().unwrap_or_default();
                end.end.0.saturating_sub(mark.0)
            })
            .sum();
        self.status_mut(|status| status.waiting = waiting);
    }
}

/// The first `count` events of a chunk and one beyond the range that they fill; entries without
/// events go with those before them.
fn head(chunk: &Chunk, count: usize) -> (&[IngestedEvent], Sequence) {
    let (part, rest) = chunk
        .events
        .split_at_checked(count)
        .unwrap_or((&chunk.events, &[]));
    let next = rest.first().map_or(chunk.next, |taken| taken.sequence);
    (part, next)
}

/// Whether the same batch will be refused for ever.
fn is_poison(error: &StoreError) -> bool {
    match error.kind {
        StoreErrorKind::Corrupt | StoreErrorKind::AlreadyExists | StoreErrorKind::NotFound => true,
        StoreErrorKind::Conflict | StoreErrorKind::Unavailable => false,
    }
}

fn conflict() -> StoreError {
    StoreError::new(StoreErrorKind::Conflict, Entity::Usage)
}
