//! The small files as a start finds them: what they say, and which of their copies are damaged.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::Path;

use prost::Message;
use tollgate_model::Timestamp;

use super::Recovery;
use crate::checkpoint::Cover;
use crate::damage::{DamageKind, DamageReport, DamageSpot};
use crate::fs::{Filesystem, read_again, read_full_at};
use crate::options::NODE_BYTES_MAX;
use crate::retention::LedgerKeeper;
use crate::twin::Twin;
use crate::wire::{CheckpointFile, Ledger, State, TotalsMessage};

/// Everything but the segments.
pub(super) fn read_small_files(fs: &dyn Filesystem, dir: &Path) -> Recovery {
    let state = Twin::load(fs, dir, "state");
    let checkpoints = Twin::load(fs, dir, "checkpoint");
    let ledger = Twin::load(fs, dir, "ledger");
    let small_files_gone = ledger.is_absent() && checkpoints.is_absent();
    let nothing_there = small_files_gone && state.is_absent();
    let ledger_unsure = !ledger.damage.is_empty();
    let ledger_lost = ledger.payloads.is_empty() && ledger_unsure;
    let state_unsure = !state.damage.is_empty();
    let (node_kept, node_damage) = read_node(fs, dir);
    let mut damage = DamageReport::default();
    let spots = [state.damage, checkpoints.damage, ledger.damage].concat();
    for spot in spots.into_iter().chain(node_damage) {
        damage.add(spot);
    }
    let decode = |bytes: &Vec<u8>| State::decode(bytes.as_slice()).ok();
    let previous = state.payloads.iter().find_map(decode);
    let file = ledger.payloads.first();
    let file = file.and_then(|bytes| Ledger::decode(bytes.as_slice()).ok());
    let file = file.unwrap_or_default();
    let mut checkpoint_files: Vec<CheckpointFile> = Vec::new();
    for bytes in &checkpoints.payloads {
        checkpoint_files.extend(CheckpointFile::decode(bytes.as_slice()));
    }
    let epochs = checkpoint_files.iter().map(|file| file.epoch);
    let epochs = epochs.chain(file.streams.iter().map(|stream| stream.epoch));
    let epoch_seen = epochs.chain(previous.iter().map(|state| state.epoch)).max();
    let mut recovery = Recovery {
        covers: checkpoint_files.iter().map(Cover::of).collect(),
        checkpoint: None,
        ledger: LedgerKeeper {
            twin: ledger.twin,
            gone: VecDeque::new(),
            retired: file
                .retired
                .as_ref()
                .map(TotalsMessage::read)
                .unwrap_or_default(),
            retired_streams: file.retired_streams,
            shipped_told: 0,
        },
        epoch_seen: epoch_seen.unwrap_or(0),
        node_kept,
        node_seen: previous.as_ref().map(|state| state.node.clone()),
        state_unsure,
        written: Vec::new(),
        last_tick: previous.as_ref().map_or(0, |state| state.last_tick),
        last_wall: Timestamp(0),
        synced_at: previous.as_ref().map_or(0, |state| state.last_tick),
        state: state.twin,
        previous,
        checkpoints: checkpoints.twin,
        fresh: nothing_there,
        streams: BTreeMap::new(),
        disk_bytes: 0,
        entries: Vec::new(),
        open: HashMap::new(),
        damage,
        complete: !ledger_lost,
        cuts: Vec::new(),
        unused: Vec::new(),
        known: file
            .streams
            .iter()
            .map(|s| ((s.epoch, s.thread as u16), s.clone()))
            .collect(),
        ledger_unsure,
        small_files_gone,
    };
    recovery.choose_checkpoint(checkpoint_files);
    recovery
}

/// The node's file as it is written: the name and a checksum of it.
pub(crate) fn node_line(name: &str) -> String {
    format!("{name} {:08x}\n", crc32fast::hash(name.as_bytes()))
}

/// A name that does not match its checksum, or has none, is no name.
pub(crate) fn read_node(fs: &dyn Filesystem, dir: &Path) -> (Option<String>, Option<DamageSpot>) {
    let mut bytes = vec![0; 2 * NODE_BYTES_MAX];
    let path = dir.join("node");
    let read = read_again(|| read_full_at(&*fs.open_read(&path)?, &mut bytes, 0));
    let length = match read {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, None),
        Err(_) => 0,
    };
    bytes.truncate(length);
    let text = String::from_utf8(bytes).unwrap_or_default();
    let name = text.split_once(' ').map(|(name, _)| name);
    if let Some(name) = name.filter(|name| node_line(name) == text) {
        return (Some(name.to_owned()), None);
    }
    let spot = DamageSpot {
        file: "node".to_owned(),
        offset: 0,
        bytes: length as u64,
        missing: 0,
        kind: DamageKind::SmallFile,
    };
    (None, Some(spot))
}
