//! What a start makes of what the journal found: counters put back, broken-off exchanges recorded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tollgate_counters::{Checkpointed, Logged, MemoryCounters, Position};
use tollgate_journal::{CounterChange, EVENT_ROOM_BYTES, Entry, Journal, Recovered, Writer};
use tollgate_model::{Clock, IdGen, Now, Pepper, Sequence, Ticks};

use crate::checkpoint;
use crate::error::StartError;
use crate::node::{Node, NodeParts};
use crate::options::Options;

/// A node that has taken up its past and serves nobody yet.
pub(crate) struct Begun {
    pub(crate) node: Arc<Node>,
    pub(crate) journal: Arc<Journal>,
    /// By thread.
    pub(crate) writers: Vec<Writer>,
    /// Exchanges that the last life left broken off, recorded now.
    pub(crate) interrupted: usize,
}

/// Restores the counters, records what was broken off, writes the first checkpoint.
pub(crate) fn begin(
    options: Options,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    pepper: Pepper,
    journal: Journal,
    mut recovered: Recovered,
) -> Result<Begun, StartError> {
    clock.raise_to(recovered.last_tick);
    let counters = MemoryCounters::new();
    let lost_at = restore(&counters, &recovered, clock.now());
    let threads = options.threads();
    let node = Arc::new(Node::new(NodeParts {
        options,
        clock,
        ids,
        pepper,
        counters,
        threads,
        lost_at,
    }));
    let journal = Arc::new(journal);
    let mut writers: Vec<Writer> = (0..threads).filter_map(|t| journal.writer(t)).collect();
    let interrupted = writers
        .first_mut()
        .map_or(0, |writer| finish_interrupted(writer, &mut recovered));
    for (position, writer) in node.positions.iter().zip(&writers) {
        position.store(writer.next_sequence().0, Ordering::Release);
    }
    // What counted on suspicion at this start must be known at the next.
    checkpoint::write(&node, &journal)?;
    Ok(Begun {
        node,
        journal,
        writers,
        interrupted,
    })
}

/// Restores the counters; the tick at which they were lost, where the journal does not tell
/// everything.
pub(crate) fn restore(counters: &MemoryCounters, recovered: &Recovered, now: Now) -> Option<Ticks> {
    let logged = |change: &CounterChange| match change {
        CounterChange::Mark(mark) => Logged::Mark(*mark),
        CounterChange::Charge(charge) => Logged::Charge(*charge),
    };
    let known = recovered.entries.iter().map(|entry| {
        let position = Position {
            epoch: entry.epoch,
            thread: entry.thread,
            sequence: entry.sequence,
        };
        (position, logged(&entry.change))
    });
    // What broke off is recorded right after this, first of all in the new life: its units are
    // known then, not held on suspicion.
    let ended = recovered
        .unfinished
        .iter()
        .zip(0..)
        .flat_map(|(one, sequence)| {
            let position = Position {
                epoch: recovered.epoch,
                thread: 0,
                sequence: Sequence(sequence),
            };
            let charges = one.charges.iter();
            charges.map(move |charge| (position, Logged::Charge(*charge)))
        });
    let entries: Vec<(Position, Logged)> = known.chain(ended).collect();
    let checkpoint = recovered.checkpoint.as_ref().map(|c| Checkpointed {
        epoch: c.epoch,
        shards: &c.shards,
    });
    counters.restore(checkpoint, &entries, now);
    if recovered.complete {
        return None;
    }
    tracing::error!("the journal does not tell everything: counters count as full for one span");
    counters.declare_lost(now);
    Some(now.ticks)
}

/// Records the exchanges that were going on when the gateway died. What does not fit now stays
/// unfinished in the journal and is tried at the next start.
pub(crate) fn finish_interrupted(writer: &mut Writer, recovered: &mut Recovered) -> usize {
    let unfinished = std::mem::take(&mut recovered.unfinished);
    let mut written = 0;
    for one in unfinished {
        let entry = Entry::Event {
            event: one.event,
            charges: one.charges,
        };
        let appended = writer
            .reserve(EVENT_ROOM_BYTES)
            .map_err(|error| error.to_string())
            .and_then(|room| {
                writer
                    .append(room, &entry)
                    .map_err(|error| error.to_string())
            });
        match appended {
            Ok(_) => written += 1,
            Err(error) => tracing::error!(error, "an interrupted exchange could not be recorded"),
        }
    }
    written
}
