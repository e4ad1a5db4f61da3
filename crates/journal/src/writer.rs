//! The end of a stream that a gateway thread holds.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_model::{Mark, Sequence, StreamId};

use crate::frame::{self, FRAME_BYTES, Kind};
use crate::live::{LiveStream, SyncState, Tally};
use crate::shared::{Shared, lock};
use crate::wire::{encode_event, encode_grant};
use crate::{Entry, JournalFull, NotWritten, SyncFailed};

/// Bytes of a room that holds any event within the model's bounds (path, user agent, labels and
/// a dozen charges); entries that turn out longer take what they need from the segment.
pub const EVENT_ROOM_BYTES: usize = 4096;

/// Bytes that a grant takes for each mark, at most.
const MARK_BYTES: usize = 64;

/// Segment space held for one entry; given back when dropped.
#[derive(Debug)]
pub struct Room {
    bytes: u64,
    account: Arc<AtomicU64>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.account.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Appends to one stream. Every method but [`Writer::synced`] is synchronous and safe to call
/// where nothing may be awaited, such as in `Drop` or under a lock.
pub struct Writer {
    shared: Arc<Shared>,
    live: Arc<LiveStream>,
    /// Sequence of the next entry; only this writer appends.
    next: u64,
    frame: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, live: Arc<LiveStream>) -> Self {
        let next = lock(&live.inner).next;
        Self {
            shared,
            live,
            next,
            frame: Vec::with_capacity(1024),
        }
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &StreamId {
        &self.live.stream.id
    }

    /// Holds space for an entry of at most `bytes` (see [`EVENT_ROOM_BYTES`]).
    ///
    /// # Errors
    /// [`JournalFull`]: nothing may be admitted that must be written down.
    pub fn reserve(&mut self, bytes: usize) -> Result<Room, JournalFull> {
        let bytes = (bytes + FRAME_BYTES) as u64;
        self.live.reserve(&self.shared, bytes)?;
        Ok(Room {
            bytes,
            account: Arc::clone(&self.live.reserved),
        })
    }

    /// The sequence that the next append will use.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        Sequence(self.next)
    }

    /// Appends an entry. When this returns `Ok` the kernel has the record: killing the process
    /// does not lose it.
    ///
    /// # Errors
    /// [`NotWritten`]: the entry is not in the kernel and its answer may not be acknowledged.
    pub fn append(&mut self, room: Room, entry: &Entry) -> Result<Sequence, NotWritten> {
        drop(room);
        frame::begin(&mut self.frame);
        match entry {
            Entry::Event { event, charges } => {
                encode_event(&mut self.frame, event, charges);
                let tally = Tally::Event {
                    id: event.id.as_str(),
                    outcome: event.outcome,
                    units: event.units,
                };
                self.push(Kind::Event, &tally)
            }
            Entry::Progress { event, charges } => {
                encode_event(&mut self.frame, event, charges);
                let payload = self.frame.get(FRAME_BYTES..).unwrap_or_default().to_vec();
                let tally = Tally::Progress {
                    id: event.id.as_str(),
                    payload: &payload,
                };
                self.push(Kind::Progress, &tally)
            }
            Entry::Grant(marks) => {
                encode_grant(&mut self.frame, marks);
                self.push(Kind::Grant, &Tally::Grant)
            }
        }
    }

    /// Writes down raised marks. Only after `Ok` may anything beyond the old ones be spent.
    ///
    /// # Errors
    /// [`JournalFull`]; the marks were not raised.
    pub fn append_grant(&mut self, marks: &[Mark]) -> Result<Sequence, JournalFull> {
        let room = self.reserve(marks.len() * MARK_BYTES)?;
        drop(room);
        frame::begin(&mut self.frame);
        encode_grant(&mut self.frame, marks);
        self.push(Kind::Grant, &Tally::Grant)
            .map_err(|error| match error {
                NotWritten::Waiting { .. } => JournalFull::Failed,
                NotWritten::TooLarge => JournalFull::TooLarge,
                NotWritten::Closed => JournalFull::Closed,
            })
    }

    fn push(&mut self, kind: Kind, tally: &Tally<'_>) -> Result<Sequence, NotWritten> {
        let sequence = self.next;
        let result = self.live.append(&self.shared, &mut self.frame, kind, tally);
        if let Ok(()) | Err(NotWritten::Waiting { .. }) = result {
            self.next += 1;
        }
        result.map(|()| Sequence(sequence))
    }

    /// Resolves once the entry is on disk; asks for a sync if need be. All that ask while one sync
    /// runs share the next.
    ///
    /// # Errors
    /// [`SyncFailed`] when the disk fails or the journal is closed; the future never hangs on them.
    pub fn synced(
        &self,
        sequence: Sequence,
    ) -> impl Future<Output = Result<(), SyncFailed>> + Send + use<> {
        let mut state = self.live.state.subscribe();
        let reached = move |state: &SyncState| state.synced > sequence.0;
        if !reached(&state.borrow()) {
            self.shared.signal.want_sync();
        }
        async move {
            let state = state
                .wait_for(|state| reached(state) || state.failed)
                .await
                .map_err(|_| SyncFailed)?;
            if reached(&state) {
                Ok(())
            } else {
                Err(SyncFailed)
            }
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("stream", self.stream())
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
