//! What a start learns from the folder. Damaged bytes never stop it: what can be read is used,
//! what cannot is reported.
//!
//! Nothing is changed on disk here; [`crate::open`] cuts torn tails and writes the new epoch
//! afterwards.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tollgate_model::{NodeId, StreamId, Ticks, Timestamp};

use crate::checkpoint::Cover;
use crate::damage::{DamageKind, DamageReport, DamageSpot};
use crate::frame::{FrameHead, salt_of};
use crate::fs::Filesystem;
use crate::layout::{Head, Layout, Piece, SegmentFile, lay_out, list_segments};
use crate::reading::{Ask, Reading, read_pieces};
use crate::recovered::{ENTRIES_MAX, Sink};
use crate::retention::LedgerKeeper;
use crate::stream::{Sealed, Segment, Stream};
use crate::twin::Twin;
use crate::wire::{CheckpointFile, LedgerStream, State, TotalsMessage, digest_event};
use crate::{Checkpoint, OutcomeTotals, RecoveredEntry};

mod platform;
mod small;

use small::read_small_files;
pub(crate) use small::{node_line, read_node};

/// Everything that an open journal is built from.
pub(crate) struct Recovery {
    pub state: Twin,
    pub previous: Option<State>,
    pub checkpoints: Twin,
    pub covers: Vec<Cover>,
    pub checkpoint: Option<Checkpoint>,
    pub ledger: LedgerKeeper,
    /// The highest epoch seen anywhere.
    pub epoch_seen: u64,
    /// The node's name as its file has it.
    pub node_kept: Option<String>,
    /// A node's name seen in the other files: in the state, else in the newest segment.
    pub node_seen: Option<String>,
    /// Whether a copy of the state is damaged: the other may be of an earlier life.
    pub state_unsure: bool,
    /// Files that a killed process wrote to, with a tick after which it did not.
    pub written: Vec<(PathBuf, u64)>,
    pub fresh: bool,
    pub streams: BTreeMap<StreamId, Arc<Stream>>,
    pub disk_bytes: u64,
    pub entries: Vec<RecoveredEntry>,
    /// Payloads of progress entries without a final event.
    pub open: HashMap<String, Vec<u8>>,
    pub damage: DamageReport,
    pub last_tick: u64,
    pub last_wall: Timestamp,
    pub synced_at: u64,
    pub complete: bool,
    pub cuts: Vec<(PathBuf, u64)>,
    pub unused: Vec<PathBuf>,
    known: HashMap<(u64, u16), LedgerStream>,
    /// Whether a copy of the ledger is damaged: the other may not know what was deleted last.
    ledger_unsure: bool,
    /// There is neither ledger nor checkpoint: nothing says what was deleted.
    small_files_gone: bool,
}

/// Reads the folder.
pub(crate) fn recover(fs: &dyn Filesystem, dir: &Path) -> io::Result<Recovery> {
    let mut recovery = read_small_files(fs, dir);
    let segments = list_segments(fs, dir)?;
    recovery.fresh &= segments.is_empty();
    recovery.read_checkpoint_progress();
    for ((epoch, thread), files) in segments {
        recovery.epoch_seen = recovery.epoch_seen.max(epoch);
        recovery.stream(fs, epoch, thread, files);
    }
    recovery.forget_known();
    let untold = recovery.previous.as_ref();
    recovery.complete &= !untold.is_some_and(|state| state.past_lost);
    recovery.complete &= !recovery.small_files_gone || recovery.streams.is_empty();
    if recovery.entries.len() > ENTRIES_MAX {
        recovery.entries = Vec::new();
        recovery.complete = false;
    }
    Ok(recovery)
}

impl Recovery {
    /// The newest that says something to this version.
    fn choose_checkpoint(&mut self, files: Vec<CheckpointFile>) {
        let found = !files.is_empty();
        for mut file in files {
            let Some(checkpoint) = Checkpoint::read(&mut file) else {
                self.damage.add(DamageSpot {
                    file: "checkpoint".to_owned(),
                    offset: 0,
                    bytes: 0,
                    missing: 0,
                    kind: DamageKind::Unknown,
                });
                continue;
            };
            let at = checkpoint.at;
            self.last_tick = self.last_tick.max(at.ticks.0);
            self.last_wall = self.last_wall.max(at.wall);
            self.synced_at = self.synced_at.max(at.ticks.0);
            self.covers.sort_by_key(|cover| cover != &Cover::of(&file));
            for payload in std::mem::take(&mut file.unfinished) {
                if let Ok(digest) = digest_event(&payload) {
                    self.open.insert(digest.id, payload);
                }
            }
            self.checkpoint = Some(checkpoint);
            return;
        }
        // What the checkpoints alone know cannot be told.
        self.complete &= !found;
    }

    /// Files that a killed process wrote to since the last sync that is known of.
    pub(crate) fn unsynced(&self) -> impl Iterator<Item = &Path> {
        let later = |(_, until): &&(PathBuf, u64)| *until >= self.synced_at;
        self.written.iter().filter(later).map(|(path, _)| &**path)
    }

    /// Without a checkpoint everything must be there from the beginning: streams too of which
    /// nothing is listed any more.
    fn read_checkpoint_progress(&mut self) {
        let deleted = self.known.values().any(|stream| stream.kept_from > 0);
        if self.checkpoint.is_none() && (deleted || self.ledger.retired_streams > 0) {
            self.complete = false;
        }
    }

    fn replay_from(&self, epoch: u64, thread: u16) -> Option<u64> {
        match (&self.checkpoint, self.covers.first()) {
            (Some(_), Some(cover)) => {
                Some(cover.reaches(epoch, thread)).filter(|from| *from < u64::MAX)
            }
            _ => Some(0),
        }
    }

    fn stream(&mut self, fs: &dyn Filesystem, epoch: u64, thread: u16, files: Vec<SegmentFile>) {
        let salt = salt_of(epoch, thread);
        let node = files.iter().find_map(|file| match &file.head {
            Head::Good(header) => Some(header.node.clone()),
            _ => None,
        });
        if self.previous.is_none() {
            // Epochs rise: the last one seen is the newest.
            self.node_seen = node.clone().or(self.node_seen.take());
        }
        let known = self.known.remove(&(epoch, thread));
        let mut layout = lay_out(fs, salt, files);
        for spot in std::mem::take(&mut layout.damage) {
            self.damage.add(spot);
        }
        self.unused
            .extend(layout.unused.iter().map(|piece| piece.file.path.clone()));
        let kept_from = self.check_front(&layout, known.as_ref());
        let sealed = known.as_ref().filter(|known| known.sealed);
        let replay_from = self.replay_from(epoch, thread);
        let reading = match sealed {
            Some(known) if replay_from.is_none_or(|from| from >= known.next) => Reading {
                next: known.next,
                whole: true,
                ..Reading::default()
            },
            _ => self.read(fs, (epoch, thread), &layout, known.as_ref(), replay_from),
        };
        // A segment that nothing can be read of may have held anything.
        let lost = |piece: &Piece| piece.file.head == Head::Bad && piece.first == u64::MAX;
        let lost = layout.pieces.iter().any(lost) && sealed.is_none();
        self.complete &= reading.whole && !(lost && replay_from.is_some());
        let (totals, last_tick) = match sealed {
            Some(known) => (
                known
                    .totals
                    .as_ref()
                    .map(TotalsMessage::read)
                    .unwrap_or_default(),
                known.last_tick,
            ),
            None => (reading.totals, reading.last_tick),
        };
        self.last_tick = self.last_tick.max(last_tick).max(reading.last_tick);
        if sealed.is_none() {
            self.written
                .extend(written_until(&layout.pieces, last_tick));
        }
        let node = node
            .or_else(|| known.as_ref().map(|known| known.node.clone()))
            .or_else(|| self.node_seen.clone())
            .unwrap_or_default();
        let id = StreamId {
            node: NodeId::new(&node),
            epoch,
            thread,
        };
        let kept = self.keep(
            id,
            layout,
            &reading,
            kept_from,
            known.as_ref(),
            totals,
            last_tick,
        );
        if let (false, Some(known)) = (kept, known) {
            self.known.insert((epoch, thread), known);
        }
    }

    /// Whether the stream's first segments are there. The answer is where it begins.
    fn check_front(&mut self, layout: &Layout, known: Option<&LedgerStream>) -> u64 {
        let kept_from = known.map_or(0, |known| known.kept_from);
        let first = layout.pieces.iter().map(|piece| piece.first).min();
        let first = first.filter(|first| *first < u64::MAX);
        let Some(first) = first.filter(|first| *first > kept_from) else {
            return kept_from;
        };
        if self.ledger_unsure {
            return first;
        }
        let file = layout
            .pieces
            .first()
            .map(|piece| piece.file.name.file_name());
        self.damage.add(DamageSpot {
            file: file.unwrap_or_default(),
            offset: 0,
            bytes: 0,
            missing: first - kept_from,
            kind: DamageKind::Missing,
        });
        kept_from
    }

    fn read(
        &mut self,
        fs: &dyn Filesystem,
        (epoch, thread): (u64, u16),
        layout: &Layout,
        known: Option<&LedgerStream>,
        replay_from: Option<u64>,
    ) -> Reading {
        let sealed = known.filter(|known| known.sealed);
        let before = known.filter(|known| !known.sealed);
        let before = before.and_then(|known| known.totals.as_ref());
        let ask = Ask {
            replay_from,
            known_next: sealed
                .map_or(0, |known| known.next)
                .max(self.checkpointed(epoch, thread)),
            open_ended: sealed.is_none(),
            totals: before.map(TotalsMessage::read).unwrap_or_default(),
        };
        let mut sink = Sink {
            epoch,
            thread,
            entries: &mut self.entries,
            open: &mut self.open,
            last_wall: &mut self.last_wall,
        };
        let mut take = |head: &FrameHead, payload: &[u8]| sink.take(head, payload);
        let mut reading = read_pieces(fs, salt_of(epoch, thread), &layout.pieces, ask, &mut take);
        if replay_from.is_some_and(|from| layout.pieces.first().is_some_and(|p| p.first > from)) {
            reading.whole = false;
        }
        self.cuts.extend(reading.cut.take());
        self.damage.torn.extend(reading.torn.take());
        for spot in std::mem::take(&mut reading.damage) {
            self.damage.add(spot);
        }
        self.synced_at = self.synced_at.max(reading.synced_at);
        reading
    }

    /// So far a checkpoint says that a stream went; 0 where none says anything.
    fn checkpointed(&self, epoch: u64, thread: u16) -> u64 {
        let reaches = self.covers.iter().filter(|cover| cover.epoch == epoch);
        let reaches = reaches.map(|cover| cover.reaches(epoch, thread));
        reaches.max().unwrap_or(0)
    }

    /// Whether there is anything to keep.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, all of it the stream's own facts"
    )]
    fn keep(
        &mut self,
        id: StreamId,
        layout: Layout,
        reading: &Reading,
        kept_from: u64,
        known: Option<&LedgerStream>,
        totals: OutcomeTotals,
        last_tick: u64,
    ) -> bool {
        let cut_to = |path: &Path| {
            let cut = self.cuts.iter().find(|(cut, _)| cut == path);
            cut.map(|(_, length)| *length)
        };
        // Nothing was ever written: an empty segment may lie there. What cannot be read stays.
        let empty = |piece: &&Piece| matches!(piece.file.head, Head::Good(_));
        if reading.next == 0 && !reading.broken {
            let paths = layout.pieces.iter().filter(empty);
            self.unused
                .extend(paths.map(|piece| piece.file.path.clone()));
            return false;
        }
        let mut segments = Vec::new();
        for piece in layout.pieces {
            let end = cut_to(&piece.file.path).unwrap_or(piece.file.length);
            self.disk_bytes += end;
            segments.push(Arc::new(Segment::of(piece, end, last_tick)));
        }
        if reading.next == 0 || segments.is_empty() {
            return false;
        }
        let stream = Stream::new(id.clone(), segments, reading.next);
        stream.kept_from.store(kept_from, Ordering::Release);
        let shipped = known.map_or(0, |known| known.shipped);
        stream.shipped.store(shipped, Ordering::Release);
        let sealed = Sealed {
            totals,
            last_tick: Ticks(last_tick),
        };
        if stream.sealed.set(sealed).is_ok() {
            self.streams.insert(id, Arc::new(stream));
        }
        true
    }

    /// Streams of which only the ledger knows: all their segments are deleted, or are missing.
    fn forget_known(&mut self) {
        let mut known: Vec<LedgerStream> = self.known.drain().map(|(_, known)| known).collect();
        known.sort_by_key(|known| (known.epoch, known.thread));
        for mut known in known {
            self.last_tick = self.last_tick.max(known.last_tick);
            let thread = known.thread as u16;
            let replay_from = self.replay_from(known.epoch, thread);
            let reached = match known.sealed {
                true => known.next,
                false => known.kept_from.max(self.checkpointed(known.epoch, thread)),
            };
            // Of a stream that was being written when last heard of, nobody knows how far it went.
            // A later life's checkpoint holds what that one made of the loss.
            let gone = !known.sealed && reached > 0 && replay_from.is_some();
            self.complete &= !gone && replay_from.is_none_or(|from| from >= reached);
            let deleted = known.sealed && self.ledger_unsure;
            if gone || reached > known.kept_from && !deleted {
                self.damage.add(gone_spot(&known, reached));
            }
            known.kept_from = reached;
            known.next = reached;
            if known.next > 0 {
                self.ledger.gone.push_back(known);
            }
        }
    }
}

/// The files of a stream, each with a tick after which nothing was written to it: when the next one
/// came into use; for the last, that of the last record.
fn written_until(pieces: &[Piece], last_tick: u64) -> impl Iterator<Item = (PathBuf, u64)> {
    let next = pieces.iter().skip(1).map(|piece| match &piece.file.head {
        Head::Good(header) => header.began_at,
        Head::Zero | Head::Bad => u64::MAX,
    });
    let paths = pieces.iter().map(|piece| piece.file.path.clone());
    paths.zip(next.chain(std::iter::once(last_tick)))
}

/// All segments of a stream are gone that should hold entries up to `reached`.
pub(crate) fn gone_spot(known: &LedgerStream, reached: u64) -> DamageSpot {
    DamageSpot {
        file: format!("{:010}-{:05}-*.seg", known.epoch, known.thread),
        offset: 0,
        bytes: 0,
        missing: reached.saturating_sub(known.kept_from),
        kind: DamageKind::Missing,
    }
}
