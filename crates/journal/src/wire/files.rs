//! Segment headers and the small files beside the segments as bytes.

use prost::Message;
use tollgate_model::{CounterState, Now, Sequence, ShardSnapshot, Ticks, Timestamp};

use super::Unreadable;
use super::grants::CounterMessage;
use crate::OutcomeTotals;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TotalsMessage {
    #[prost(uint64, repeated, tag = "1")]
    events: Vec<u64>,
    #[prost(uint64, repeated, tag = "2")]
    units: Vec<u64>,
}

impl TotalsMessage {
    pub(crate) fn of(totals: &OutcomeTotals) -> Self {
        Self {
            events: totals.events.to_vec(),
            units: totals.units.to_vec(),
        }
    }

    /// Outcomes that this version does not know are left out.
    pub(crate) fn read(&self) -> OutcomeTotals {
        let mut totals = OutcomeTotals::default();
        for (mine, theirs) in totals.events.iter_mut().zip(&self.events) {
            *mine = *theirs;
        }
        for (mine, theirs) in totals.units.iter_mut().zip(&self.units) {
            *mine = *theirs;
        }
        totals
    }
}

/// The first bytes of a segment.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SegmentHeader {
    #[prost(string, tag = "1")]
    pub node: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(uint32, tag = "3")]
    pub thread: u32,
    #[prost(uint64, tag = "4")]
    pub index: u64,
    /// Sequence of its first record; what earlier segments hold from there on is void.
    #[prost(uint64, tag = "5")]
    pub first: u64,
    /// Ticks when it came into use.
    #[prost(uint64, tag = "6")]
    pub began_at: u64,
    /// Of all events of the stream before it.
    #[prost(message, optional, tag = "7")]
    pub totals: Option<TotalsMessage>,
}

/// What a start must know of the one before.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct State {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(string, tag = "2")]
    pub node: String,
    #[prost(string, tag = "3")]
    pub boot_id: String,
    #[prost(bool, tag = "4")]
    pub durable: bool,
    /// Whether that start ended by closing the journal.
    #[prost(bool, tag = "5")]
    pub clean: bool,
    /// Everything before was on disk.
    #[prost(uint64, tag = "6")]
    pub last_tick: u64,
    /// A span that a power cut may have taken begins here (ticks), and no life since was long
    /// enough for it to be surely told.
    #[prost(uint64, optional, tag = "7")]
    pub lost_from: Option<u64>,
    /// Ticks when the machine was started.
    #[prost(uint64, optional, tag = "8")]
    pub ticks_at_boot: Option<u64>,
    /// A start found that not everything is known, and no checkpoint says so yet.
    #[prost(bool, tag = "9")]
    pub past_lost: bool,
}

/// What must outlive segments.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ledger {
    #[prost(message, repeated, tag = "1")]
    pub streams: Vec<LedgerStream>,
    /// Sum over streams that were dropped from the list.
    #[prost(message, optional, tag = "2")]
    pub retired: Option<TotalsMessage>,
    #[prost(uint64, tag = "3")]
    pub retired_streams: u64,
}

/// What must outlive a stream's segments.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LedgerStream {
    #[prost(string, tag = "1")]
    pub node: String,
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    #[prost(uint32, tag = "3")]
    pub thread: u32,
    /// Sequence of the first entry that is kept.
    #[prost(uint64, tag = "4")]
    pub kept_from: u64,
    /// First sequence that the platform has not confirmed.
    #[prost(uint64, tag = "5")]
    pub shipped: u64,
    /// Whether the stream has ended.
    #[prost(bool, tag = "6")]
    pub sealed: bool,
    /// One beyond its last entry; while it has not ended, `kept_from`. The totals are of all
    /// events before.
    #[prost(uint64, tag = "7")]
    pub next: u64,
    #[prost(uint64, tag = "8")]
    pub last_tick: u64,
    #[prost(message, optional, tag = "9")]
    pub totals: Option<TotalsMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct CounterStateMessage {
    #[prost(message, optional, tag = "1")]
    counter: Option<CounterMessage>,
    #[prost(uint64, tag = "2")]
    settled: u64,
    #[prost(uint64, tag = "3")]
    spent: u64,
    #[prost(uint64, tag = "4")]
    granted: u64,
    #[prost(uint64, repeated, tag = "5")]
    slot_numbers: Vec<u64>,
    #[prost(uint32, repeated, tag = "6")]
    slot_units: Vec<u32>,
    #[prost(uint64, tag = "7")]
    began: u64,
    #[prost(uint64, tag = "8")]
    reserved: u64,
    #[prost(uint64, tag = "9")]
    held: u64,
}

#[derive(Clone, PartialEq, Message)]
struct ShardMessage {
    #[prost(uint32, tag = "1")]
    shard: u32,
    #[prost(uint64, tag = "2")]
    round: u64,
    #[prost(uint64, tag = "3")]
    at: u64,
    #[prost(uint64, repeated, tag = "4")]
    positions: Vec<u64>,
    #[prost(message, repeated, tag = "5")]
    counters: Vec<CounterStateMessage>,
    #[prost(uint64, tag = "6")]
    lost_at: u64,
}

/// A checkpoint as it stands in its file.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CheckpointFile {
    #[prost(uint64, tag = "1")]
    pub epoch: u64,
    #[prost(sint64, tag = "2")]
    wall: i64,
    #[prost(uint64, tag = "3")]
    ticks: u64,
    #[prost(message, repeated, tag = "4")]
    shards: Vec<ShardMessage>,
    /// Payloads of progress entries without a final event.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub unfinished: Vec<Vec<u8>>,
    /// By thread, the first sequence whose charges are missing in some shard.
    #[prost(uint64, repeated, tag = "6")]
    pub positions: Vec<u64>,
    /// The latest `closed_before` of the shards, where quotas were forgotten.
    #[prost(sint64, optional, tag = "7")]
    closed_before: Option<i64>,
    /// [`COUNTERS_VERSION`] when it was written.
    #[prost(uint32, tag = "8")]
    counters_version: u32,
}

/// How counters are named and spread over shards in checkpoints.
const COUNTERS_VERSION: u32 = 2;

fn write_counter(state: &CounterState) -> CounterStateMessage {
    CounterStateMessage {
        counter: Some(CounterMessage::of(state.counter, state.kind)),
        settled: state.settled,
        spent: state.spent,
        granted: state.granted,
        slot_numbers: state.slots.iter().map(|(number, _)| *number).collect(),
        slot_units: state.slots.iter().map(|(_, units)| *units).collect(),
        began: state.began.0,
        reserved: state.reserved,
        held: state.held,
    }
}

fn read_counter(message: CounterStateMessage) -> Result<CounterState, Unreadable> {
    let counter = message.counter.ok_or(Unreadable)?;
    if message.slot_numbers.len() != message.slot_units.len() {
        return Err(Unreadable);
    }
    Ok(CounterState {
        counter: counter.id(),
        kind: counter.kind()?,
        settled: message.settled,
        spent: message.spent,
        granted: message.granted,
        began: Ticks(message.began),
        reserved: message.reserved,
        held: message.held,
        slots: message
            .slot_numbers
            .into_iter()
            .zip(message.slot_units)
            .collect(),
    })
}

fn write_shard(shard: &ShardSnapshot) -> ShardMessage {
    ShardMessage {
        shard: u32::from(shard.shard),
        round: shard.round,
        at: shard.at.0,
        positions: shard.positions.iter().map(|sequence| sequence.0).collect(),
        counters: shard.counters.iter().map(write_counter).collect(),
        lost_at: shard.lost_at.0,
    }
}

fn read_shard(
    message: ShardMessage,
    closed_before: Timestamp,
) -> Result<ShardSnapshot, Unreadable> {
    let counters: Result<Vec<CounterState>, Unreadable> =
        message.counters.into_iter().map(read_counter).collect();
    Ok(ShardSnapshot {
        shard: u16::try_from(message.shard).map_err(|_| Unreadable)?,
        round: message.round,
        at: Ticks(message.at),
        positions: message.positions.into_iter().map(Sequence).collect(),
        lost_at: Ticks(message.lost_at),
        closed_before,
        counters: counters?,
    })
}

impl CheckpointFile {
    pub(crate) fn write(
        epoch: u64,
        at: Now,
        shards: &[ShardSnapshot],
        positions: Vec<u64>,
        unfinished: Vec<Vec<u8>>,
    ) -> Self {
        Self {
            epoch,
            wall: at.wall.0,
            ticks: at.ticks.0,
            shards: shards.iter().map(write_shard).collect(),
            unfinished,
            positions,
            closed_before: shards.iter().map(|shard| shard.closed_before.0).max(),
            counters_version: COUNTERS_VERSION,
        }
    }

    pub(crate) fn at(&self) -> Now {
        Now {
            wall: Timestamp(self.wall),
            ticks: Ticks(self.ticks),
        }
    }

    pub(crate) fn read_shards(&mut self) -> Result<Vec<ShardSnapshot>, Unreadable> {
        if self.counters_version != COUNTERS_VERSION {
            return Err(Unreadable);
        }
        let closed_before = Timestamp(self.closed_before.unwrap_or(i64::MIN));
        std::mem::take(&mut self.shards)
            .into_iter()
            .map(|shard| read_shard(shard, closed_before))
            .collect()
    }
}
