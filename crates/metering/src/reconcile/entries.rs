//! What of the journal's entries is compared, brought over from where blocking is allowed.

use std::sync::Arc;

use tokio::sync::mpsc;
use tollgate_model::{Outcome, Sequence, StreamId, Timestamp};
use tollgate_store::{IngestedEvent, PeriodScope};

use super::JournalView;
use crate::MeteringResult;
use crate::fold::periods_of;
use crate::source::blocking;

/// Entries handed over at once.
const CHUNK: usize = 1_000;
/// Chunks that may wait to be looked at.
const CHUNKS_WAITING: usize = 4;

/// An event of the journal.
pub(super) struct LoggedUnits {
    pub(super) sequence: Sequence,
    pub(super) outcome: Outcome,
    pub(super) units: u64,
    pub(super) periods: Vec<(PeriodScope, Timestamp)>,
}

impl LoggedUnits {
    fn of(taken: &IngestedEvent) -> Self {
        Self {
            sequence: taken.sequence,
            outcome: taken.event.outcome,
            units: taken.event.units,
            periods: periods_of(&taken.event).collect(),
        }
    }
}

/// Shows every event of `from..to` of a stream; the answer is how many entries there cannot be read.
pub(super) async fn each_entry(
    journal: &Arc<dyn JournalView>,
    stream: &StreamId,
    from: Sequence,
    to: Sequence,
    mut show: impl FnMut(LoggedUnits),
) -> MeteringResult<u64> {
    if from >= to {
        return Ok(0);
    }
    let (send, mut receive) = mpsc::channel::<Vec<LoggedUnits>>(CHUNKS_WAITING);
    let (source, stream) = (journal.clone(), stream.clone());
    let reading = blocking(move || {
        let mut chunk = Vec::with_capacity(CHUNK);
        let mut gone = false;
        let unreadable = source.each_event(&stream, from, to, &mut |taken| {
            chunk.push(LoggedUnits::of(taken));
            if chunk.len() >= CHUNK {
                // Nobody listens any more once the question was given up.
                gone = gone || send.blocking_send(std::mem::take(&mut chunk)).is_err();
            }
        })?;
        drop(send.blocking_send(chunk));
        Ok(unreadable)
    });
    let looking = async {
        while let Some(chunk) = receive.recv().await {
            chunk.into_iter().for_each(&mut show);
        }
    };
    let (read, ()) = tokio::join!(reading, looking);
    read
}
