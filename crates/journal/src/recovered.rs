//! What a start tells those who restore counters and close what was left open.

use std::collections::HashMap;

use tollgate_model::{Charge, Mark, NodeId, Outcome, Sequence, Ticks, Timestamp};

use crate::frame::{FrameHead, Kind};
use crate::wire::{decode_event, decode_grant, digest_event};
use crate::{Checkpoint, DamageReport, Unfinished};

/// Most entries that are handed to the counters; beyond, history counts as incomplete.
pub(crate) const ENTRIES_MAX: usize = 2_000_000;

/// A mark or charge that is not in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveredEntry {
    /// Of which life.
    pub epoch: u64,
    /// Of which thread.
    pub thread: u16,
    /// Where.
    pub sequence: Sequence,
    /// What.
    pub change: CounterChange,
}

/// What an entry did to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterChange {
    /// Its mark was raised.
    Mark(Mark),
    /// A request on it ended.
    Charge(Charge),
}

/// Time whose entries a power cut may have taken, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostSpan {
    /// Everything before was on disk.
    pub from: Timestamp,
    /// This start.
    pub to: Timestamp,
}

/// What a start found.
#[derive(Debug)]
pub struct Recovered {
    /// This gateway's name.
    pub node: NodeId,
    /// This life; higher than any before.
    pub epoch: u64,
    /// Whether the folder was new: nothing is known of the past.
    pub fresh: bool,
    /// Whether the last life ended by closing the journal.
    pub clean: bool,
    /// The newest checkpoint that can be read.
    pub checkpoint: Option<Checkpoint>,
    /// Marks and charges of all entries that the checkpoint does not cover, by epoch, thread and
    /// sequence. For threads of the checkpoint's own epoch they begin where the first shard asks
    /// for them; shards that were copied later hold some of them already.
    pub entries: Vec<RecoveredEntry>,
    /// Exchanges that were going on; each is to be appended as an event.
    pub unfinished: Vec<Unfinished>,
    /// What is broken.
    pub damage: DamageReport,
    /// Set after a power cut in fast mode.
    pub lost_span: Option<LostSpan>,
    /// No tick written down is later.
    pub last_tick: Ticks,
    /// No wall time written down is later, by the checkpoint and the entries that it does not cover:
    /// periods go on from there, though the wall clock was set back.
    pub last_wall: Timestamp,
    /// Whether the checkpoint (or, without one, the whole history) and all entries after it could
    /// be read, and the platform knows of nothing beyond, so that counters restored from them forget
    /// nothing.
    pub complete: bool,
}

/// Takes in what counters need.
pub(crate) struct Sink<'a> {
    pub epoch: u64,
    pub thread: u16,
    pub entries: &'a mut Vec<RecoveredEntry>,
    pub open: &'a mut HashMap<String, Vec<u8>>,
    pub last_wall: &'a mut Timestamp,
}

impl Sink<'_> {
    /// Whether the record could be read.
    pub(crate) fn take(&mut self, head: &FrameHead, payload: &[u8]) -> bool {
        match head.kind {
            Kind::Event => {
                let Ok(digest) = digest_event(payload) else {
                    return false;
                };
                self.open.remove(&digest.id);
                *self.last_wall = digest.at.max(*self.last_wall);
                for charge in digest.charges {
                    self.push(head, CounterChange::Charge(charge));
                }
            }
            Kind::Grant => {
                let Ok(marks) = decode_grant(payload) else {
                    return false;
                };
                for mark in marks {
                    self.push(head, CounterChange::Mark(mark));
                }
            }
            Kind::Progress => {
                let Ok(digest) = digest_event(payload) else {
                    return false;
                };
                *self.last_wall = digest.at.max(*self.last_wall);
                self.open.insert(digest.id, payload.to_vec());
            }
            Kind::Unknown => return false,
        }
        true
    }

    fn push(&mut self, head: &FrameHead, change: CounterChange) {
        // One beyond the bound tells that it was passed.
        if self.entries.len() <= ENTRIES_MAX {
            self.entries.push(RecoveredEntry {
                epoch: self.epoch,
                thread: self.thread,
                sequence: Sequence(head.sequence),
                change,
            });
        }
    }
}

/// Open progress entries as events.
pub(crate) fn interrupted(open: &HashMap<String, Vec<u8>>) -> Vec<Unfinished> {
    let mut all: Vec<Unfinished> = Vec::new();
    for payload in open.values() {
        let Ok((mut event, mut charges)) = decode_event(payload) else {
            continue;
        };
        event.outcome = Outcome::Interrupted;
        for charge in &mut charges {
            charge.kept = charge.reserved;
        }
        all.push(Unfinished { event, charges });
    }
    all.sort_by(|a, b| a.event.id.as_str().cmp(b.event.id.as_str()));
    all
}
