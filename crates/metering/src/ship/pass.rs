//! One pass: everything that is in the journal when it begins, batch by batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tollgate_model::{Sequence, StreamId};
use tollgate_store::{IngestBatch, IngestedEvent, StoreError, StoreErrorKind};

use super::{Marks, Progress, Shipper};
use crate::source::blocking;
use crate::{MeteringError, MeteringResult, StreamEnd};

/// More events refused in a row than this are the store's fault, not theirs.
const QUARANTINE_ROW_MAX: u32 = 16;
/// So often marks are read anew within one pass before the pass fails.
const CONFLICTS_MAX: u32 = 4;

/// A batch, ready to be sent.
struct Part {
    batch: Arc<IngestBatch>,
    /// Entries inside its range that could not be read.
    unreadable: u64,
}

/// What is still to be read: streams, and where each goes on. They take turns.
struct Plan {
    open: VecDeque<(StreamEnd, Sequence)>,
    /// Why a stream was left for the next pass.
    failed: Option<MeteringError>,
}

impl Plan {
    fn new(ends: &[StreamEnd], marks: &Marks) -> Self {
        let from = |end: &StreamEnd| {
            let mark = marks.get(&end.stream).copied().unwrap_or_default();
            (end.clone(), mark)
        };
        Self {
            open: ends.iter().map(from).collect(),
            failed: None,
        }
    }
}

impl Shipper {
    /// Ships everything that is in the journal when it begins.
    ///
    /// # Errors
    /// The store's or the journal's failure; what was taken in before it stays.
    pub async fn pass(&self) -> MeteringResult<()> {
        let mut marks = self.marks.lock().await;
        let result = self.pass_over(&mut marks).await;
        self.progress_mut(Progress::note_caught_up);
        match &result {
            Ok(()) => self.status_mut(|status| status.failing = None),
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
        let now = self.clock.now().wall;
        let mut ends = self.ends().await?;
        self.progress_mut(|progress| progress.await_ends(now, &ends));
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
        let mut plan = Plan::new(ends, marks);
        let mut waiting = self.read_ahead(&mut plan).await;
        while !waiting.is_empty() {
            let at_once = waiting.iter().take(self.options.batches_at_once_max);
            let batches = at_once.map(|part| part.batch.clone()).collect();
            let more = async {
                // Where the store took in less than it was offered, enough is waiting.
                if waiting.len() > self.options.batches_at_once_max {
                    VecDeque::new()
                } else {
                    self.read_ahead(&mut plan).await
                }
            };
            fail::fail_point!("ship-read", |_| std::process::abort());
            let (sent, more) = tokio::join!(self.store.ingest_some(batches), more);
            waiting.extend(more);
            let sent = match (sent, waiting.pop_front()) {
                (Ok(taken), Some(first)) => {
                    let others = waiting.drain(..taken.saturating_sub(1).min(waiting.len()));
                    self.note_taken(std::iter::once(first).chain(others), marks)
                        .await;
                    continue;
                }
                (Err(error), Some(first)) if is_poison(&error) => {
                    self.take_alone(first, marks).await
                }
                (sent, _) => sent.map(drop),
            };
            match sent {
                Ok(()) => {}
                Err(error) if error.kind == StoreErrorKind::Conflict => {
                    conflicts += 1;
                    self.status_mut(|status| status.conflicts += 1);
                    if conflicts > CONFLICTS_MAX {
                        return Err(error.into());
                    }
                    *marks = self.read_marks().await?;
                }
                Err(error) => return Err(error.into()),
            }
            // What was read ahead may not begin at the marks any more.
            plan = Plan {
                failed: plan.failed,
                ..Plan::new(ends, marks)
            };
            waiting = self.read_ahead(&mut plan).await;
        }
        plan.failed.map_or(Ok(()), Err)
    }

    /// The next batches to send, read and folded, from each stream in turn.
    async fn read_ahead(&self, plan: &mut Plan) -> VecDeque<Part> {
        let mut parts = VecDeque::new();
        while parts.len() < self.options.batches_at_once_max
            && let Some((end, from)) = plan.open.pop_front()
        {
            if from >= end.end {
                continue;
            }
            match self.read(&end.stream, from).await {
                Ok(Some(part)) => {
                    plan.open.push_back((end, part.batch.next));
                    parts.push_back(part);
                }
                Ok(None) => tracing::debug!(?end, "nothing can be read there yet"),
                Err(error) => plan.failed = Some(error),
            }
        }
        parts
    }

    /// The next batch of a stream; `None` where nothing can be read at present.
    async fn read(&self, stream: &StreamId, from: Sequence) -> MeteringResult<Option<Part>> {
        let (source, ingest, stream) = (self.source.clone(), self.ingest.clone(), stream.clone());
        let (events, bytes) = (self.options.batch_events_max, self.options.batch_bytes_max);
        blocking(move || {
            let chunk = source.read(&stream, from, events, bytes)?;
            Ok((chunk.next > from).then(|| Part {
                unreadable: chunk.unreadable,
                batch: Arc::new(ingest.prepare(stream, from, chunk.next, chunk.events)),
            }))
        })
        .await
    }

    /// Remembers what the store has taken in, and tells the journal.
    async fn note_taken(&self, taken: impl Iterator<Item = Part>, marks: &mut Marks) {
        fail::fail_point!("ship-taken", |_| std::process::abort());
        let mut moved = Marks::new();
        for Part { batch, unreadable } in taken {
            if !batch.events.is_empty() {
                self.refused_in_row.store(0, Ordering::Relaxed);
            }
            if unreadable > 0 {
                let (stream, from, next) = (&batch.stream, batch.first.0, batch.next.0);
                tracing::error!(?stream, from, next, "journal entries are unreadable");
            }
            self.status_mut(|status| {
                status.shipped += batch.events.len() as u64;
                status.batches += 1;
                status.unreadable += unreadable;
            });
            moved.insert(batch.stream.clone(), batch.next);
        }
        for (stream, next) in moved {
            self.move_mark(&stream, next, marks).await;
        }
    }

    async fn move_mark(&self, stream: &StreamId, next: Sequence, marks: &mut Marks) {
        marks.insert(stream.clone(), next);
        self.progress_mut(|progress| progress.marks.insert(stream.clone(), next));
        self.tell_shipped(stream, next).await;
        fail::fail_point!("ship-told", |_| std::process::abort());
    }

    /// Takes in as much of a batch as the store accepts at once: all of it, but for events that it
    /// refuses for good.
    async fn take_alone(&self, part: Part, marks: &mut Marks) -> Result<(), StoreError> {
        let whole = &part.batch;
        let mut count = whole.events.len();
        loop {
            let (events, next) = head(whole, count);
            let (stream, first) = (whole.stream.clone(), whole.first);
            let batch = Arc::new(self.ingest.prepare(stream, first, next, events.to_vec()));
            match self.store.ingest_some(vec![batch.clone()]).await {
                Ok(_) => {
                    let unreadable = if next == whole.next {
                        part.unreadable
                    } else {
                        0
                    };
                    let taken = Part { batch, unreadable };
                    self.note_taken(std::iter::once(taken), marks).await;
                    return Ok(());
                }
                Err(error) if is_poison(&error) && count == 1 => {
                    self.quarantine(&batch, error).await?;
                    self.move_mark(&batch.stream, next, marks).await;
                    return Ok(());
                }
                Err(error) if is_poison(&error) && count > 1 => count /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// Moves the mark past an event that the store refuses. Where even that is refused, the event
    /// is not to blame.
    async fn quarantine(&self, batch: &IngestBatch, refused: StoreError) -> Result<(), StoreError> {
        // A broken store would refuse one event after the other: then they stay in the journal.
        if self.refused_in_row.fetch_add(1, Ordering::Relaxed) >= QUARANTINE_ROW_MAX {
            return Err(refused);
        }
        let (stream, first, next) = (batch.stream.clone(), batch.first, batch.next);
        let without = self.ingest.prepare(stream, first, next, Vec::new());
        self.store.ingest(without).await?;
        for taken in &batch.events {
            tracing::error!(
                stream = ?batch.stream, sequence = taken.sequence.0, id = ?taken.event.id,
                error = %refused, "an event was refused for good and is in no record"
            );
        }
        self.status_mut(|status| status.quarantined += batch.events.len() as u64);
        Ok(())
    }

    /// The marks of all of this gateway's streams; the journal is told of them.
    async fn read_marks(&self) -> MeteringResult<Marks> {
        let found = self.store.high_water_marks(&self.source.node()).await?;
        let pairs = found.into_iter().map(|mark| (mark.stream, mark.next));
        let marks: Marks = pairs.collect();
        for (stream, next) in &marks {
            self.tell_shipped(stream, *next).await;
        }
        self.progress_mut(|progress| progress.marks.clone_from(&marks));
        Ok(marks)
    }

    pub(super) async fn ends(&self) -> MeteringResult<Vec<StreamEnd>> {
        let source = self.source.clone();
        blocking(move || source.streams()).await
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

/// The first `count` events of a batch and one beyond the range that they fill; entries without
/// events go with those before them.
fn head(batch: &IngestBatch, count: usize) -> (&[IngestedEvent], Sequence) {
    let (part, rest) = batch
        .events
        .split_at_checked(count)
        .unwrap_or((&batch.events, &[]));
    let next = rest.first().map_or(batch.next, |taken| taken.sequence);
    (part, next)
}

/// Whether the same batch will be refused for ever, for what is in it. A store that is damaged is
/// not: events wait in the journal until it is mended.
fn is_poison(error: &StoreError) -> bool {
    match error.kind {
        StoreErrorKind::Unstorable | StoreErrorKind::AlreadyExists | StoreErrorKind::NotFound => {
            true
        }
        StoreErrorKind::Conflict | StoreErrorKind::Unavailable | StoreErrorKind::Corrupt => false,
    }
}
