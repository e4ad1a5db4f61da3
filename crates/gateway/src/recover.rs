//! What a start makes of what the journal found: counters put back, broken-off exchanges recorded.

use tollgate_counters::{Checkpointed, Logged, MemoryCounters, Position};
use tollgate_journal::{CounterChange, EVENT_ROOM_BYTES, Entry, Recovered, Writer};
use tollgate_model::{Now, Sequence, Ticks};

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
