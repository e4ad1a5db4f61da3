//! What a start makes of what the journal found: broken-off exchanges recorded, counters put back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tollgate_counters::{Checkpointed, Logged, MemoryCounters, Position};
use tollgate_journal::{
    CounterChange, EVENT_ROOM_BYTES, Entry, Journal, Recovered, RecoveredEntry, Unfinished, Writer,
};
use tollgate_model::{Clock, IdGen, Now, Pepper, Sequence, StreamId, Ticks, Timestamp};

use crate::checkpoint;
use crate::error::StartError;
use crate::node::{Node, NodeParts};
use crate::options::Options;
use crate::periods::warn_of_set_back;

/// A node that has taken up its past and serves nobody yet.
pub(crate) struct Begun {
    pub(crate) node: Arc<Node>,
    pub(crate) journal: Arc<Journal>,
    /// By thread.
    pub(crate) writers: Vec<Writer>,
    /// Exchanges that the last life left broken off.
    pub(crate) finished: Finished,
}

/// Records what was broken off, restores the counters, writes the first checkpoint.
pub(crate) fn begin(
    options: Options,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdGen>,
    pepper: Pepper,
    journal: Journal,
    recovered: &mut Recovered,
) -> Result<Begun, StartError> {
    if !recovered.clean && !recovered.fresh {
        tracing::warn!(
            interrupted = recovered.unfinished.len(),
            torn_files = recovered.damage.torn.len(),
            entries_missing = recovered.damage.missing,
            "the last run did not end in order: what it left broken off is recorded as interrupted, \
             and what it had granted and is not known to be spent counts as used"
        );
    }
    let journal = Arc::new(journal);
    let threads = options.threads();
    let mut writers: Vec<Writer> = (0..threads).filter_map(|t| journal.writer(t)).collect();
    warn_of_set_back(recovered.last_wall, clock.now().wall);
    let (counters, finished, lost_at) = bring_back(&mut writers, recovered, clock.now());
    let node = Arc::new(Node::new(NodeParts {
        options,
        clock,
        ids,
        pepper,
        counters,
        threads,
        lost_at,
        latest_wall: recovered.last_wall,
    }));
    for (position, writer) in node.positions.iter().zip(&writers) {
        position.store(writer.next_sequence().0, Ordering::Release);
    }
    // What counted on suspicion at this start must be known at the next.
    checkpoint::write(&node, &journal)?;
    Ok(Begun {
        node,
        journal,
        writers,
        finished,
    })
}

/// Counters as the journal tells, and what of it could not be recorded yet.
fn bring_back(
    writers: &mut [Writer],
    recovered: &mut Recovered,
    now: Now,
) -> (MemoryCounters, Finished, Option<Ticks>) {
    let counters = MemoryCounters::new();
    let Some(first) = writers.first_mut() else {
        return (counters, Finished::default(), None);
    };
    let finished = finish_interrupted(first, recovered);
    let lost_at = restore(&counters, recovered, &finished, first.stream(), now);
    (counters, finished, lost_at)
}

/// Broken-off exchanges.
#[derive(Default)]
pub(crate) struct Finished {
    /// Where each of those that were recorded now stands, and its charges.
    recorded: Vec<(Sequence, Unfinished)>,
    /// Those for which there was no room: their units are held until there is.
    pub(crate) left: Vec<Unfinished>,
}

impl Finished {
    /// How many were recorded.
    pub(crate) fn recorded(&self) -> usize {
        self.recorded.len()
    }
}

/// Records the exchanges that were going on when the gateway died.
pub(crate) fn finish_interrupted(writer: &mut Writer, recovered: &mut Recovered) -> Finished {
    let mut finished = Finished::default();
    for one in std::mem::take(&mut recovered.unfinished) {
        let Ok(room) = writer.reserve(EVENT_ROOM_BYTES) else {
            finished.left.push(one);
            continue;
        };
        let entry = Entry::Event {
            event: one.event.clone(),
            charges: one.charges.clone(),
        };
        let sequence = writer.next_sequence();
        if let Err(error) = writer.append(room, &entry) {
            // The journal has it in memory, or said why not; it is tried again by nobody else.
            tracing::error!(%error, "an interrupted exchange could not be written yet");
        }
        finished.recorded.push((sequence, one));
    }
    if !finished.left.is_empty() {
        tracing::warn!(
            waiting = finished.left.len(),
            "no room to record exchanges that were broken off; their units are held until there is"
        );
    }
    finished
}

/// Restores the counters; the tick at which they were lost, where the journal does not tell
/// everything.
pub(crate) fn restore(
    counters: &MemoryCounters,
    recovered: &Recovered,
    finished: &Finished,
    stream: &StreamId,
    now: Now,
) -> Option<Ticks> {
    let known = recovered.entries.iter().map(logged);
    // What broke off has been recorded, first of all in the new life: its units are known, not
    // held on suspicion.
    let ended = finished.recorded.iter().flat_map(|(sequence, one)| {
        let position = Position {
            epoch: stream.epoch,
            thread: stream.thread,
            sequence: *sequence,
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
    let lost_at = if recovered.complete {
        // A loss that the last life began with: its span may not have passed yet.
        let shards = recovered.checkpoint.iter().flat_map(|c| &c.shards);
        shards.map(|shard| shard.lost_at).max()?
    } else {
        tracing::error!(
            "the journal does not tell everything: each window counts as full until its span has \
             passed (a minute limit for a minute, a day limit for a day), quotas until the store has \
             told what was used; the log above says why, or `tollgate journal verify`, and \
             `on_counters_lost` decides what an API lets pass meanwhile"
        );
        now.ticks
    };
    if lost_at.0 == 0 {
        return None;
    }
    if recovered.complete {
        tracing::warn!(
            at = %Timestamp(i64::try_from(lost_at.0).unwrap_or(i64::MAX)),
            "counters were lost at an earlier start: windows whose span has not passed since then \
             still count as full"
        );
    }
    counters.declare_lost(lost_at);
    Some(lost_at)
}

fn logged(entry: &RecoveredEntry) -> (Position, Logged) {
    let position = Position {
        epoch: entry.epoch,
        thread: entry.thread,
        sequence: entry.sequence,
    };
    let logged = match entry.change {
        CounterChange::Mark(mark) => Logged::Mark(mark),
        CounterChange::Charge(charge) => Logged::Charge(charge),
    };
    (position, logged)
}

#[cfg(test)]
mod tests {
    use tollgate_journal::{Checkpoint, DamageReport};
    use tollgate_model::{NodeId, ShardSnapshot};

    use super::*;

    #[test]
    fn a_loss_is_not_forgotten_by_a_second_start_within_its_span() {
        let now = Now {
            wall: Timestamp(1_764_000_000_000_000),
            ticks: Ticks(1_764_000_000_000_000),
        };
        let lost_at = Ticks(now.ticks.0 - 1_000_000);
        let mut recovered = Recovered {
            node: NodeId::new("node-a"),
            epoch: 2,
            fresh: false,
            clean: false,
            checkpoint: Some(Checkpoint {
                epoch: 1,
                at: now,
                shards: vec![ShardSnapshot {
                    shard: 0,
                    round: 1,
                    at: now.ticks,
                    positions: Vec::new(),
                    lost_at,
                    closed_before: Timestamp(i64::MIN),
                    counters: Vec::new(),
                }],
            }),
            entries: Vec::new(),
            unfinished: Vec::new(),
            damage: DamageReport::default(),
            lost_span: None,
            last_tick: now.ticks,
            last_wall: now.wall,
            complete: true,
        };
        let stream = StreamId {
            node: NodeId::new("node-a"),
            epoch: 2,
            thread: 0,
        };
        let told = |recovered: &Recovered| {
            let counters = MemoryCounters::new();
            let nothing = Finished::default();
            let lost_at = restore(&counters, recovered, &nothing, &stream, now);
            let copy = counters.snapshot_shard(0, now, &mut Vec::new);
            (lost_at, copy.map(|copy| copy.lost_at))
        };
        assert_eq!(told(&recovered), (Some(lost_at), Some(lost_at)));
        recovered.complete = false;
        assert_eq!(told(&recovered), (Some(now.ticks), Some(now.ticks)));
        recovered.complete = true;
        recovered.checkpoint = None;
        assert_eq!(told(&recovered), (None, Some(Ticks(0))));
    }
}
