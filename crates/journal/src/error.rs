//! What can go wrong, by who has to act on it.

use std::io;
use std::path::PathBuf;

use tollgate_model::{Sequence, StreamId};

/// Why a journal could not be opened, closed, or a checkpoint written. Damaged bytes are never
/// among the reasons.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The options contradict themselves.
    #[error("journal options: {0}")]
    Options(String),
    /// The node's name cannot be used.
    #[error("a node's name is 1 to 128 visible ASCII characters")]
    NodeName,
    /// Another process has the journal open.
    #[error(
        "the journal in {0} is in use: another tollgate serves this folder; stop it, or give this one a journal.dir and store.url of its own"
    )]
    InUse(PathBuf),
    /// The filesystem refused.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A checkpoint names entries that were not written in time; it was not published.
    #[error("the checkpoint waits for entries that are not written")]
    NotWritten,
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
    /// Segments went as fast as they were looked at, again and again.
    #[error("the journal in {0} changes faster than it can be read")]
    Unsteady(PathBuf),
}

impl JournalError {
    pub(crate) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

/// Why there is no room for one more entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JournalFull {
    /// `disk_bytes_max` is reached and nothing may be deleted yet.
    #[error("the journal has reached disk_max")]
    DiskMax,
    /// The disk would not give another segment.
    #[error("the disk gives the journal no more space")]
    NoSpace,
    /// Writing or syncing failed; what was written is kept in memory until the disk returns.
    #[error("the journal's disk fails")]
    Failed,
    /// The disk is so slow that `unsynced_bytes_max` is reached.
    #[error("the journal's disk is too slow")]
    SyncBehind,
    /// More bytes than any segment has.
    #[error("the entry is larger than a segment")]
    TooLarge,
    /// The journal is closed.
    #[error("the journal is closed")]
    Closed,
}

/// The entry has its sequence but is not in the kernel: its answer may not be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotWritten {
    /// It waits in memory and is written once the disk returns.
    #[error("entry {} waits in memory for the disk", sequence.0)]
    Waiting {
        /// Its place.
        sequence: Sequence,
    },
    /// It is larger than a segment; nothing was taken, no sequence was used.
    #[error("the entry is larger than a segment")]
    TooLarge,
    /// The journal is closed; nothing was taken.
    #[error("the journal is closed")]
    Closed,
}

/// The entry is not on disk, and will not be soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the entry could not be synced")]
pub struct SyncFailed;

/// Why a range could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No entry of this stream is kept.
    #[error("no such stream: {0:?}")]
    UnknownStream(StreamId),
    /// The entries were deleted; the first that is kept is named.
    #[error("entries before {} are deleted", first.0)]
    Deleted {
        /// The first that can be read.
        first: Sequence,
    },
    /// The filesystem refused.
    #[error("cannot read {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}
