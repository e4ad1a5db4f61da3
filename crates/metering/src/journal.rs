//! The journal of this process as a [`BatchSource`], and one in a folder as a [`JournalView`].

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tollgate_journal::{Entry, Filesystem, Folder, Range, ReadError, Reader, Totals};
use tollgate_model::{NodeId, Sequence, StreamId};
use tollgate_store::{IngestedEvent, OutcomeTotals};

use crate::{
    BatchSource, Changed, CheckpointView, Chunk, JournalView, SourceError, StreamEnd, StreamTotals,
};

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
        match self.reader.read(stream, from, events_max, bytes_max) {
            Ok(range) => Ok(chunk_of(range)),
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

/// The events of a range; grants and progress entries leave gaps.
fn chunk_of(range: Range) -> Chunk {
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
        self.chunk(stream, from, events_max, bytes_max)
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

/// The journal in a folder, read without opening it: also while another process has it open.
pub struct FolderJournal {
    node: NodeId,
    folder: Folder,
}

impl FolderJournal {
    /// The journal in `dir`; `None` where no gateway has ever opened one.
    ///
    /// # Errors
    /// [`SourceError`] when the folder cannot be read.
    pub fn find(fs: Arc<dyn Filesystem>, dir: &Path) -> Result<Option<Self>, SourceError> {
        let folder = Folder::new(fs, dir);
        let found = folder.inspect().map_err(failed)?;
        Ok(found.node.map(|node| Self {
            node: NodeId::new(&node),
            folder,
        }))
    }
}

fn failed(error: tollgate_journal::JournalError) -> SourceError {
    SourceError(Box::new(error))
}

fn totals_of(totals: &Totals) -> OutcomeTotals {
    OutcomeTotals {
        events: totals.events,
        units: totals.units,
    }
}

impl JournalView for FolderJournal {
    fn node(&self) -> NodeId {
        self.node.clone()
    }

    fn totals(&self) -> Result<StreamTotals, SourceError> {
        let found = self.folder.inspect().map_err(failed)?;
        let mut answer = StreamTotals {
            streams: Vec::new(),
            totals: totals_of(&found.retired),
        };
        for stream in found.streams {
            answer.totals.merge(&totals_of(&stream.totals));
            answer.streams.push(StreamEnd {
                stream: StreamId {
                    node: self.node.clone(),
                    epoch: stream.epoch,
                    thread: stream.thread,
                },
                end: stream.next,
            });
        }
        Ok(answer)
    }

    fn checkpoint(&self) -> Result<Option<CheckpointView>, SourceError> {
        Ok(self.folder.checkpoint().map(|found| CheckpointView {
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
    ) -> Result<(), SourceError> {
        let id = (stream.epoch, stream.thread);
        let mut shown = |sequence: Sequence, event| {
            if sequence < to {
                show(&IngestedEvent { sequence, event });
            }
        };
        self.folder.each_event(id, from, &mut shown).map_err(failed)
    }
}
