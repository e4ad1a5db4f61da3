//! Looking into a journal's folder without opening it: also beside the process that has it open.

use std::path::Path;

use prost::Message;
use tollgate_model::{Now, Sequence};

use crate::damage::{DamageKind, DamageReport, DamageSpot};
use crate::frame::salt_of;
use crate::fs::{Filesystem, read_again};
use crate::layout::{Head, SegmentFile, lay_out, list_segments};
use crate::reading::read_end;
use crate::recover::{gone_spot, read_node};
use crate::twin::{Loaded, Twin};
use crate::wire::{CheckpointFile, Ledger, LedgerStream, State, TotalsMessage};
use crate::{JournalError, OutcomeTotals};

/// What is known of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInspection {
    /// The gateway's name, as the stream's files have it.
    pub node: String,
    /// Which life.
    pub epoch: u64,
    /// Which thread.
    pub thread: u16,
    /// Segments on disk.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// First sequence that is kept.
    pub first: Sequence,
    /// One beyond the last entry.
    pub next: Sequence,
    /// First sequence not confirmed as shipped, when last written down.
    pub shipped: Sequence,
    /// Whether the stream has ended.
    pub sealed: bool,
    /// Records read and found good; 0 where nothing had to be read.
    pub records: u64,
    /// Of all events ever, deleted ones too.
    pub totals: OutcomeTotals,
}

/// What is known of one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointInspection {
    /// Of which life.
    pub epoch: u64,
    /// When.
    pub at: Now,
    /// How many counters it holds.
    pub counters: usize,
    /// How many exchanges were open.
    pub unfinished: usize,
}

/// What lies in the folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// The gateway's name, where the state can be read.
    pub node: Option<String>,
    /// The last life, where the state can be read.
    pub epoch: Option<u64>,
    /// Whether the last life ended by closing the journal.
    pub clean: bool,
    /// Newest first.
    pub checkpoints: Vec<CheckpointInspection>,
    /// Oldest epoch first; those without segments too.
    pub streams: Vec<StreamInspection>,
    /// Sum over streams that are no longer listed.
    pub retired: OutcomeTotals,
    /// What is broken. Of a stream that is being written, an end that is just being written may
    /// show as torn; that is no damage.
    pub damage: DamageReport,
}

/// Reads names, headers, small files, and of streams that have not ended the last segment.
///
/// # Errors
/// When the folder cannot be listed; damage is part of the answer.
pub fn inspect(fs: &dyn Filesystem, dir: &Path) -> Result<Inspection, JournalError> {
    look(fs, dir, false)
}

/// Reads every record too. [`DamageReport::is_clean`] tells whether all is well.
///
/// # Errors
/// As [`inspect`].
pub fn verify(fs: &dyn Filesystem, dir: &Path) -> Result<Inspection, JournalError> {
    look(fs, dir, true)
}

/// So often a look begins anew because the writer deleted something meanwhile.
const TRIES: u32 = 20;

/// What is deleted stands in the ledger before it goes: what is missing is missing indeed where
/// the ledger is the same before and after.
fn look(fs: &dyn Filesystem, dir: &Path, every_record: bool) -> Result<Inspection, JournalError> {
    for _ in 0..TRIES {
        let before = Twin::load(fs, dir, "ledger");
        let payloads = before.payloads.clone();
        let answer = look_once(fs, dir, every_record, before)?;
        if Twin::load(fs, dir, "ledger").payloads == payloads {
            return Ok(answer);
        }
    }
    Err(JournalError::Unsteady(dir.to_owned()))
}

fn look_once(
    fs: &dyn Filesystem,
    dir: &Path,
    every_record: bool,
    ledger: Loaded,
) -> Result<Inspection, JournalError> {
    let mut answer = Inspection::default();
    let state = Twin::load(fs, dir, "state");
    let checkpoints = Twin::load(fs, dir, "checkpoint");
    let (node_kept, node_damage) = read_node(fs, dir);
    let state_unsure = !state.damage.is_empty();
    let ledger_unsure = !ledger.damage.is_empty();
    let mut spots = [state.damage, ledger.damage, checkpoints.damage].concat();
    spots.extend(node_damage);
    if let Some(state) = state.payloads.first()
        && let Ok(state) = State::decode(state.as_slice())
    {
        answer.clean = state.clean && !state_unsure;
        answer.epoch = Some(state.epoch);
        answer.node = Some(state.node);
    }
    answer.node = node_kept.or(answer.node);
    for bytes in &checkpoints.payloads {
        answer.checkpoints.extend(describe(bytes));
    }
    let ledger = ledger.payloads.first();
    let ledger = ledger.and_then(|bytes| Ledger::decode(bytes.as_slice()).ok());
    let ledger = ledger.unwrap_or_default();
    answer.retired = ledger
        .retired
        .as_ref()
        .map(TotalsMessage::read)
        .unwrap_or_default();
    let mut known = ledger.streams;
    let segments = list_segments(fs, dir).map_err(JournalError::io("list", dir))?;
    for ((epoch, thread), files) in segments {
        let of_stream =
            |known: &LedgerStream| known.epoch == epoch && known.thread == u32::from(thread);
        let place = known.iter().position(of_stream);
        let of_ledger = place.map(|place| known.swap_remove(place));
        let stream = Stream {
            fs,
            known: of_ledger.clone(),
            every_record,
            ledger_unsure,
        };
        let (stream, found, torn) = stream.look(epoch, thread, files);
        // Of a stream that ended and whose files hold nothing, the ledger alone tells.
        known.extend(of_ledger.filter(|known| stream.is_none() && known.sealed));
        answer.streams.extend(stream);
        spots.extend(found);
        answer.damage.torn.extend(torn);
    }
    let lost = known
        .iter()
        .filter(|known| known.sealed && known.next > known.kept_from && !ledger_unsure);
    for known in lost {
        answer.damage.add(gone_spot(known, known.next));
    }
    answer.streams.extend(known.iter().map(gone));
    answer
        .streams
        .sort_by_key(|stream| (stream.epoch, stream.thread));
    // Segments that were deleted while they were looked at are no damage.
    let names = read_again(|| fs.list(dir)).map_err(JournalError::io("list", dir))?;
    for spot in spots {
        if names.contains(&spot.file) {
            answer.damage.add(spot);
        }
    }
    Ok(answer)
}

fn describe(bytes: &[u8]) -> Option<CheckpointInspection> {
    let mut file = CheckpointFile::decode(bytes).ok()?;
    let shards = file.read_shards().ok()?;
    Some(CheckpointInspection {
        epoch: file.epoch,
        at: file.at(),
        counters: shards.iter().map(|shard| shard.counters.len()).sum(),
        unfinished: file.unfinished.len(),
    })
}

fn gone(known: &LedgerStream) -> StreamInspection {
    StreamInspection {
        node: known.node.clone(),
        epoch: known.epoch,
        thread: known.thread as u16,
        segments: 0,
        bytes: 0,
        first: Sequence(known.kept_from),
        next: Sequence(known.next),
        shipped: Sequence(known.shipped),
        sealed: known.sealed,
        records: 0,
        totals: known
            .totals
            .as_ref()
            .map(TotalsMessage::read)
            .unwrap_or_default(),
    }
}

struct Stream<'a> {
    fs: &'a dyn Filesystem,
    known: Option<LedgerStream>,
    every_record: bool,
    ledger_unsure: bool,
}

type Looked = (
    Option<StreamInspection>,
    Vec<DamageSpot>,
    Option<crate::TornTail>,
);

impl Stream<'_> {
    fn look(self, epoch: u64, thread: u16, files: Vec<SegmentFile>) -> Looked {
        let salt = salt_of(epoch, thread);
        let bytes = files.iter().map(|file| file.length).sum();
        let node = files.iter().find_map(|file| match &file.head {
            Head::Good(header) => Some(header.node.clone()),
            _ => None,
        });
        let sealed = self.known.as_ref().filter(|known| known.sealed);
        let layout = lay_out(self.fs, salt, files);
        let kept_from = self.known.as_ref().map_or(0, |known| known.kept_from);
        let replay_from = self.every_record.then_some(kept_from);
        let reading = read_end(
            self.fs,
            salt,
            &layout.pieces,
            self.known.as_ref(),
            replay_from,
        );
        let mut spots = layout.damage;
        spots.extend(reading.damage);
        let first = layout.pieces.first().filter(|piece| piece.first < u64::MAX);
        let first = first.filter(|piece| piece.first > kept_from && !self.ledger_unsure);
        spots.extend(first.map(|piece| DamageSpot {
            file: piece.file.name.file_name(),
            offset: 0,
            bytes: 0,
            missing: piece.first - kept_from,
            kind: DamageKind::Missing,
        }));
        let used = layout.pieces.iter().any(|piece| piece.first < piece.upper);
        let stream = (used && reading.next > 0).then(|| StreamInspection {
            node: node.unwrap_or_default(),
            epoch,
            thread,
            segments: layout.pieces.len(),
            bytes,
            first: Sequence(kept_from),
            next: Sequence(reading.next),
            shipped: Sequence(self.known.as_ref().map_or(0, |known| known.shipped)),
            sealed: sealed.is_some(),
            records: reading.records,
            totals: reading.totals,
        });
        (stream, spots, reading.torn)
    }
}
