//! Where batches come from: the local journal, seen through the little that shipping needs.

use std::future::Future;
use std::pin::Pin;

use tollgate_model::{NodeId, Sequence, StreamId};
use tollgate_store::IngestedEvent;

use crate::MeteringResult;

/// The journal could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the journal could not be read: {0}")]
pub struct SourceError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// How far a stream has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnd {
    /// Whose journal.
    pub stream: StreamId,
    /// One beyond its last entry.
    pub end: Sequence,
}

/// A readable range of a stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chunk {
    /// The events inside, in rising order. Entries that are no events leave gaps.
    pub events: Vec<IngestedEvent>,
    /// One beyond the range. Equal to where reading began: nothing can be read there yet.
    pub next: Sequence,
    /// Entries inside the range that could not be read and are left out.
    pub unreadable: u64,
}

/// Resolves when something was appended since it was last awaited.
pub type Changed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A gateway's journal as shipping sees it. Methods may block on files; they are called where
/// that is allowed.
pub trait BatchSource: Send + Sync + 'static {
    /// Whose journal it is.
    fn node(&self) -> NodeId;

    /// Every stream that has entries on disk, all epochs.
    ///
    /// # Errors
    /// [`SourceError`] when the journal cannot be listed.
    fn streams(&self) -> Result<Vec<StreamEnd>, SourceError>;

    /// Reads from a position, at most so many events and bytes (at least one entry).
    ///
    /// # Errors
    /// [`SourceError`] when the file system fails; damaged entries are no error, they are counted.
    fn read(
        &self,
        stream: &StreamId,
        from: Sequence,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Chunk, SourceError>;

    /// Entries before `next` have been taken in and need not be kept for shipping.
    ///
    /// # Errors
    /// [`SourceError`] when that cannot be noted; shipping goes on.
    fn shipped(&self, stream: &StreamId, next: Sequence) -> Result<(), SourceError>;

    /// Resolves after the next append. May resolve without one; must not miss one.
    fn changed(&self) -> Changed<'_>;
}

/// Runs what may wait for files where that is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> MeteringResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(SourceError(Box::new(error)).into()),
    }
}
