//! The journal of a gateway: an append-only, checksummed log of usage events and grants that
//! survives the death of process and machine.
//!
//! **Owns** the files in the journal's folder: segments, checkpoints, the node's name and epoch;
//! appending, syncing, reading back, recovery, what to do about damage and full disks, deletion.
//!
//! **Does not own** what a counter is or how it is restored (`counters`), when a batch is shipped
//! (`metering`), what is admitted or held back while there is no room (`gateway`).
//!
//! # What is promised
//!
//! 1. `append` answering `Ok` means that the kernel has the record whole. What is *acknowledged*
//!    to a client after that is never lost by the death of the process.
//! 2. **Killed process** (`kill -9`, panic, out of memory): loses nothing for which `append` said
//!    `Ok`. Lost are entries for which it said [`NotWritten`] and that still waited in memory;
//!    whoever got that answer must not acknowledge.
//! 3. **Power cut, `fast`**: loses at most what was appended since the last completed sync. One
//!    starts every 50 ms. What survives of that time may have holes, since disks write in any
//!    order. The next start says so: [`Recovered::lost_span`] runs from a moment before which
//!    everything is known to be on disk (taken from the records and checkpoints themselves, so it
//!    may begin earlier than the true loss, never later) to that start.
//!    It is told again until a checkpoint was written after it. What a killed process wrote
//!    since its last sync is written again and synced by the next start before that counts as old:
//!    a sync alone says nothing where an earlier one failed.
//! 4. **Power cut, `durable`**: loses nothing for which [`Writer::synced`] resolved `Ok`. Syncs are
//!    shared: all that wait while one runs are covered by the next.
//! 5. **Damaged bytes** cost the records they lie in and no others, are reported with file and
//!    offset, are never delivered as something else, and never keep a journal from opening. They
//!    stay where they are; a file that could not be read is never taken for an empty one. A read
//!    that fails is tried again before it counts as damage.
//! 6. An identity (node, epoch, thread, sequence) is used once: the epoch is raised on disk before
//!    anything is appended, above all that this folder or the platform knows
//!    ([`JournalOptions::platform_marks`]). The same range of a stream always has the same bytes.
//! 7. **A full disk shows at [`Writer::reserve`] only**: whoever holds a [`Room`] can append.
//!    Segments are allocated in full beforehand, with the next one always ready.
//! 8. **A failing disk is not believed.** After a failed write the segment is left as it is and
//!    the record goes into a fresh one. After a failed sync everything since the last good one is
//!    written again from memory into fresh segments. While that fails too, entries wait in memory
//!    (only those that hold a room: bounded), `reserve` refuses with [`JournalFull::Failed`], and
//!    all of it is written once the disk returns.
//! 9. Running totals by outcome are kept for every stream, deleted ones too.
//!
//! # Files
//!
//! ```text
//! lock                          held (flock) by the process that has the journal open
//! node                          the gateway's name and the crc32 of it, one line of text
//! state-a, state-b              epoch, boot and its ticks, how the last stop ended, what is untold
//! ledger-a, ledger-b            by stream: deleted up to, shipped up to, totals of what is deleted
//!                               or, once it has ended, of all
//! checkpoint-a, checkpoint-b    counters at a moment, open exchanges
//! <epoch>-<thread>-<index>.seg  segments: one stream per (node, epoch, thread)
//! ```
//! Where one copy of a pair is damaged the other may be older: then nothing is believed that only
//! the newest could say (a clean end, what was deleted). The pairs are written alternately, each time to a temporary name, synced, renamed, and the
//! folder synced; the header of `twin.rs` draws them. All numbers are little endian; payloads are
//! Protocol Buffers messages whose field numbers are never reused.
//!
//! A segment is a header of 512 bytes (drawn in `segment.rs`), records in a row, and zeros:
//!
//! ```text
//!      0        4        8        12     13        14         16         24     32         36
//! head | magic  | crc32  | length | kind | version | reserved | sequence | at   | sync age | payload
//!      | 4      | 4      | 4      | 1    | 1       | 2 (0)    | 8        | 8    | 4        | length
//!
//! magic     ff 54 67 fe: bytes that UTF-8 cannot have, so no payload's text can look like a record
//! crc32     over everything behind it, starting from the crc32 of epoch (8) and thread (2)
//! length    of the payload, in bytes
//! kind      1 event, 2 grant, 3 progress; version 2
//! sequence  rises by one from record to record of a stream
//! at        ticks (µs) of the append
//! sync age  at that moment everything appended `sync age` µs before `at` was on disk; all ones:
//!           that was longer ago than can be told
//! ```
//! A reader that meets bytes that are no record looks for the next offset at which a record with a
//! higher sequence passes its checksum. Behind the last record of a stream that was being written
//! there may be a torn one: it is cut off at the next start. A segment's header says with which
//! sequence it begins and voids what earlier segments hold from there on.

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
mod open;
mod options;
mod range;
mod reader;
mod reading;
mod recover;
mod recovered;
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
pub use entry::{Entry, OutcomeTotals};
pub use error::{JournalError, JournalFull, NotWritten, ReadError, SyncFailed};
pub use folder::Folder;
pub use fs::{DiskFilesystem, FileHandle, Filesystem, LockGuard};
pub use inspect::{CheckpointInspection, Inspection, StreamInspection, inspect, verify};
pub use journal::{Journal, JournalStatus};
pub use options::{JournalOptions, SyncMode};
pub use range::Range;
pub use reader::{Reader, StreamInfo, StreamTotals};
pub use recovered::{CounterChange, LostSpan, Recovered, RecoveredEntry};
pub use writer::{EVENT_ROOM_BYTES, Room, Writer};
