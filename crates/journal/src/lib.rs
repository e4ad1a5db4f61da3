//! placeholder header

#![cfg_attr(test, expect(clippy::indexing_slicing, reason = "tests may panic"))]

mod checkpoint;
mod damage;
mod entry;
mod error;
mod folder;
mod frame;
mod fs;
mod inspect;
mod journal;
mod layout;
mod live;
mod options;
mod range;
mod reader;
mod recover;
mod repair;
mod retention;
mod scan;
mod segment;
mod shared;
mod stream;
mod sync;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod twin;
mod wire;
mod writer;

pub use checkpoint::{Checkpoint, Unfinished};
pub use damage::{DamageKind, DamageReport, DamageSpot, TornTail};
pub use entry::{Entry, Totals};
pub use error::{JournalError, JournalFull, NotWritten, ReadError, SyncFailed};
pub use folder::Folder;
pub use fs::{DiskFilesystem, FileHandle, Filesystem, LockGuard};
pub use inspect::{CheckpointInspection, Inspection, StreamInspection, inspect, verify};
pub use journal::{Journal, JournalStatus};
pub use options::{JournalOptions, SyncMode};
pub use range::Range;
pub use reader::{Reader, StreamInfo, StreamTotals};
pub use recover::{CounterChange, LostSpan, Recovered, RecoveredEntry};
pub use writer::{EVENT_ROOM_BYTES, Room, Writer};
