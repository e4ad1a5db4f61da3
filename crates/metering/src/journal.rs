//! The journal of this process as a [`BatchSource`], and one in a folder as a [`JournalView`].

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tollgate_journal::{Entry, Filesystem, Folder, Range, ReadError, Reader};
use tollgate_model::{NodeId, Sequence, StreamId};
use tollgate_store::IngestedEvent;

use crate::{
    BatchSource, Changed, CheckpointView, Chunk, JournalView, SourceError, StreamEnd, StreamTotals,
};

/// Events of one read while everything is gone through.
const CHUNK_EVENTS: usize = 5_000;
/// Bytes of one read.
const CHUNK_BYTES: usize = 16 << 20;

/// A gateway's own journal, while it is open.
pub struct LocalJournal {
    node: NodeId,
    reader: Reader,
    appended: tokio::sync::Mutex<watch::Receiver<u64>>,
}

impl LocalJournal {
    /// Over the reader of the gateway `node`.
    #[must_use]
    pub fn new(node: NodeId, reader: Reader) -> Self {
        Self {
            appended: tokio::sync::Mutex::new(reader.subscribe()),
            node,
            reader,
        }
    }

    fn chunk(
        &self,
        stream: &StreamId,
        from: Sequence,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Chunk, SourceError> {
        chunk_of(from, self.reader.read(stream, from, events_max, bytes_max))
    }

    fn ends(&self) -> Vec<StreamEnd> {
        self.reader
            .streams()
            .into_iter()
            .map(|stream| StreamEnd {
                stream: stream.id,
                end: stream.next,
            })
            .collect()
    }
}

/// What a read tells of the events behind `from`.
fn chunk_of(from: Sequence, read: Result<Range, ReadError>) -> Result<Chunk, SourceError> {
    match read {
        Ok(range) => Ok(events_of(range)),
        // The platform's mark lies before everything that is kept: go on where something is.
        Err(ReadError::Deleted { first }) => Ok(Chunk {
            events: Vec::new(),
            next: first,
            unreadable: first.0.saturating_sub(from.0),
        }),
        // Its last segment was deleted since it was listed: there is nothing to read.
        Err(ReadError::UnknownStream(_)) => Ok(Chunk {
            next: from,
            ..Chunk::default()
        }),
        Err(error) => Err(SourceError(Box::new(error))),
    }
}

/// The events of a range; grants and progress entries leave gaps.
fn events_of(range: Range) -> Chunk {
    let events = range
        .entries
        .into_iter()
        .filter_map(|(sequence, entry)| match entry {
            Entry::Event { event, .. } => Some(IngestedEvent { sequence, event }),
            Entry::Grant(_) | Entry::Progress { .. } => None,
        })
        .collect();
    Chunk {
        events,
        next: range.next,
        unreadable: range.missing,
    }
}

impl BatchSource for LocalJournal {
    fn node(&self) -> NodeId {
        self.node.clone()
    }

    fn streams(&self) -> Result<Vec<StreamEnd>, SourceError> {
        Ok(self.ends())
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Sequence,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Chunk, SourceError> {
        let mut chunk = self.chunk(stream, from, events_max, bytes_max)?;
        // What the platform has must outlast the machine here too: were an entry lost that it has
        // taken in, journal and ledger would differ for ever.
        let on_disk = self.reader.synced(stream).max(from);
        if chunk.next > on_disk {
            chunk.events.retain(|taken| taken.sequence < on_disk);
            chunk.next = on_disk;
        }
        Ok(chunk)
    }

    fn shipped(&self, stream: &StreamId, next: Sequence) -> Result<(), SourceError> {
        self.reader.shipped(stream, next);
        Ok(())
    }

    fn changed(&self) -> Changed<'_> {
        Box::pin(async {
            let mut appended = self.appended.lock().await;
            if appended.changed().await.is_err() {
                // The journal is closed; whoever waits has a time-out of its own.
                std::future::pending::<()>().await;
            }
        })
    }
}

/// Reads chunk after chunk and shows the events of `from..to`; the answer is how many entries there
/// cannot be read.
fn read_through(
    from: Sequence,
    to: Sequence,
    read: impl Fn(Sequence) -> Result<Chunk, SourceError>,
    show: &mut dyn FnMut(&IngestedEvent),
) -> Result<u64, SourceError> {
    let mut unreadable = 0;
    let mut at = from;
    while at < to {
        let chunk = read(at)?;
        let inside = chunk.events.iter().filter(|taken| taken.sequence < to);
        inside.for_each(&mut *show);
        unreadable += chunk.unreadable;
        if chunk.next <= at {
            break;
        }
        at = chunk.next;
    }
    Ok(unreadable)
}

/// The sum over all streams, and where each ends.
fn sum_of(streams: Vec<tollgate_journal::StreamTotals>) -> StreamTotals {
    let mut answer = StreamTotals::default();
    for of_stream in streams {
        answer.totals.merge(&of_stream.totals);
        match of_stream.id {
            Some(stream) => answer.streams.push(StreamEnd {
                stream,
                end: of_stream.next,
            }),
            None => answer.has_unlisted = true,
        }
    }
    answer
}

/// The journal in a folder, read without opening it: also while another process has it open.
pub struct FolderJournal(Folder);

impl FolderJournal {
    /// The journal in `dir`; `None` where no gateway has ever opened one.
    ///
    /// # Errors
    /// [`SourceError`] when the folder cannot be read.
    pub fn find(fs: Arc<dyn Filesystem>, dir: &Path) -> Result<Option<Self>, SourceError> {
        let found = Folder::open(fs, dir).map_err(failed)?;
        Ok(found.map(Self))
    }
}

fn failed(error: tollgate_journal::JournalError) -> SourceError {
    SourceError(Box::new(error))
}

impl JournalView for FolderJournal {
    fn node(&self) -> NodeId {
        self.0.node().clone()
    }

    fn totals(&self) -> Result<StreamTotals, SourceError> {
        self.0.totals().map(sum_of).map_err(failed)
    }

    fn checkpoint(&self) -> Result<Option<CheckpointView>, SourceError> {
        Ok(self.0.checkpoint().map(|found| CheckpointView {
            epoch: found.epoch,
            shards: found.shards,
        }))
    }

    fn each_event(
        &self,
        stream: &StreamId,
        from: Sequence,
        to: Sequence,
        show: &mut dyn FnMut(&IngestedEvent),
    ) -> Result<u64, SourceError> {
        let read = |at| {
            let range = self.0.read(stream, at, CHUNK_EVENTS, CHUNK_BYTES);
            chunk_of(at, range)
        };
        read_through(from, to, read, show)
    }
}
