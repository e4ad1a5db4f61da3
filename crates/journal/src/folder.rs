//! A journal's folder seen from outside: beside the process that writes it, or after it died.
//!
//! **Owns** the read-only view: it takes no lock, cuts nothing, repairs nothing.
//!
//! **Invariants.** What is told is of one moment: the ledger is read before and after the segments,
//! and everything is looked at again where it changed in between, as the writer says in the ledger
//! what it deletes before it deletes it. An end is the last record that stood whole at that moment;
//! totals are of exactly the records before the ends that they come with. What seems to be missing
//! is looked for once more before it is believed: while one file is looked at, the writer may fill
//! another that was empty when it was looked at.
//!
//! **Does not own** proving that nothing is damaged ([`crate::verify`]).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use prost::Message;
use tollgate_model::{NodeId, Sequence, StreamId};

use crate::damage::{DamageBook, DamageSpot};
use crate::frame::salt_of;
use crate::fs::{Filesystem, read_again};
use crate::layout::{Head, SegmentFile, lay_out, list_segments};
use crate::range::Ranges;
use crate::reading::read_end;
use crate::shared::lock;
use crate::stream::{Sealed, Segment, Stream};
use crate::twin::Twin;
use crate::wire::{CheckpointFile, Ledger, LedgerStream, State, TotalsMessage};
use crate::{Checkpoint, JournalError, Range, ReadError, StreamInfo, StreamTotals};

/// So often a look or a read begins anew because the writer deleted what was being read.
const TRIES: u32 = 20;

/// A journal's folder, read only.
pub struct Folder {
    fs: Arc<dyn Filesystem>,
    dir: PathBuf,
    node: NodeId,
    ranges: Ranges,
    damage: DamageBook,
    seen: Mutex<Seen>,
}

/// What the last look saw.
#[derive(Default)]
struct Seen {
    streams: BTreeMap<StreamId, Arc<Stream>>,
    totals: Vec<StreamTotals>,
    /// A node's name in the files.
    node: Option<String>,
    /// What could not be read where it should be.
    missing: Vec<DamageSpot>,
}

impl Folder {
    /// Looks into `dir`; `None` where no journal was ever opened.
    ///
    /// # Errors
    /// When the folder cannot be listed, or changes too fast. Damaged bytes are no error.
    pub fn open(fs: Arc<dyn Filesystem>, dir: &Path) -> Result<Option<Self>, JournalError> {
        match read_again(|| fs.list(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(JournalError::io("list", dir))?,
        };
        let seen = look(&*fs, dir)?;
        let Some(node) = name_of(&*fs, dir).or_else(|| seen.node.clone()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            ranges: Ranges::new(Arc::clone(&fs)),
            fs,
            dir: dir.to_owned(),
            node: NodeId::new(&node),
            damage: DamageBook::default(),
            seen: Mutex::new(seen),
        }))
    }

    /// The gateway's name. Streams of a time when it had another carry that one.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Every stream with entries that are kept, as it stands now; oldest epoch first.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn streams(&self) -> Result<Vec<StreamInfo>, JournalError> {
        let seen = self.look()?;
        let mut streams: Vec<StreamInfo> =
            seen.streams.values().map(|s| StreamInfo::of(s)).collect();
        streams.sort_by_key(|stream| (stream.id.epoch, stream.id.thread));
        Ok(streams)
    }

    /// Running totals of every stream ever, deleted ones too, as they stand now.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn totals(&self) -> Result<Vec<StreamTotals>, JournalError> {
        Ok(self.look()?.totals.clone())
    }

    /// The newest checkpoint that can be read.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let files = Twin::load(&*self.fs, &self.dir, "checkpoint").payloads;
        files.iter().find_map(|bytes| {
            let mut file = CheckpointFile::decode(bytes.as_slice()).ok()?;
            Checkpoint::read(&mut file)
        })
    }

    /// As [`crate::Reader::read`], up to the ends that were told last.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(
        &self,
        stream: &StreamId,
        from: Sequence,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Range, ReadError> {
        let mut tries = TRIES;
        loop {
            let Some(found) = lock(&self.seen).streams.get(stream).cloned() else {
                return Err(ReadError::UnknownStream(stream.clone()));
            };
            let read = self
                .ranges
                .read(&found, &self.damage, from, events_max, bytes_max);
            match read {
                // Deleted since it was listed.
                Err(ReadError::Io { path, source })
                    if source.kind() == io::ErrorKind::NotFound && tries > 0 =>
                {
                    tries -= 1;
                    drop(self.look().map_err(|error| ReadError::Io {
                        path,
                        source: io::Error::other(error),
                    })?);
                }
                other => return other,
            }
        }
    }

    fn look(&self) -> Result<MutexGuard<'_, Seen>, JournalError> {
        let seen = look(&*self.fs, &self.dir)?;
        let mut held = lock(&self.seen);
        *held = seen;
        Ok(held)
    }
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder")
            .field("dir", &self.dir)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

fn name_of(fs: &dyn Filesystem, dir: &Path) -> Option<String> {
    let files = Twin::load(fs, dir, "state").payloads;
    let state = files.iter().find_map(|bytes| State::decode(&**bytes).ok());
    state.map(|state| state.node)
}

fn ledger_of(fs: &dyn Filesystem, dir: &Path) -> Ledger {
    let files = Twin::load(fs, dir, "ledger").payloads;
    let ledger = files.iter().find_map(|bytes| Ledger::decode(&**bytes).ok());
    ledger.unwrap_or_default()
}

fn look(fs: &dyn Filesystem, dir: &Path) -> Result<Seen, JournalError> {
    let mut ledger = ledger_of(fs, dir);
    let mut missing = Vec::new();
    for _ in 0..TRIES {
        let seen = look_once(fs, dir, ledger.clone())?;
        let after = ledger_of(fs, dir);
        if after == ledger && seen.missing == missing {
            return Ok(seen);
        }
        missing = seen.missing;
        ledger = after;
    }
    Err(JournalError::Unsteady(dir.to_owned()))
}

fn look_once(fs: &dyn Filesystem, dir: &Path, ledger: Ledger) -> Result<Seen, JournalError> {
    let mut seen = Seen::default();
    if ledger.retired_streams > 0 {
        let totals = ledger.retired.as_ref().map(TotalsMessage::read);
        seen.totals.push(StreamTotals {
            id: None,
            next: Sequence(0),
            totals: totals.unwrap_or_default(),
        });
    }
    let known = ledger.streams.into_iter();
    let mut known: BTreeMap<(u64, u16), LedgerStream> = known
        .map(|stream| ((stream.epoch, stream.thread as u16), stream))
        .collect();
    let segments = list_segments(fs, dir).map_err(JournalError::io("list", dir))?;
    for ((epoch, thread), files) in segments {
        let ended = known.get(&(epoch, thread));
        let found = look_at_stream(fs, (epoch, thread), files, ended, &mut seen.missing);
        if let Some((stream, totals)) = found {
            known.remove(&(epoch, thread));
            seen.node = Some(stream.id.node.as_str().to_owned());
            seen.totals.push(totals);
            seen.streams.insert(stream.id.clone(), Arc::new(stream));
        }
    }
    let gone = known.values().filter(|known| known.next > 0);
    seen.totals.extend(gone.map(StreamTotals::of_gone));
    Ok(seen)
}

/// `None` where nothing was ever written to it.
fn look_at_stream(
    fs: &dyn Filesystem,
    (epoch, thread): (u64, u16),
    files: Vec<SegmentFile>,
    known: Option<&LedgerStream>,
    missing: &mut Vec<DamageSpot>,
) -> Option<(Stream, StreamTotals)> {
    let salt = salt_of(epoch, thread);
    let node = files.iter().find_map(|file| match &file.head {
        Head::Good(header) => Some(header.node.clone()),
        _ => None,
    });
    let node = node.or_else(|| known.map(|known| known.node.clone()));
    let layout = lay_out(fs, salt, files);
    let reading = read_end(fs, salt, &layout.pieces, known, None);
    missing.extend(reading.damage);
    if reading.next == 0 || layout.pieces.is_empty() {
        return None;
    }
    let id = StreamId {
        node: NodeId::new(&node.unwrap_or_default()),
        epoch,
        thread,
    };
    let segments = layout.pieces.into_iter().map(|piece| {
        let cut = reading
            .cut
            .as_ref()
            .filter(|(path, _)| *path == piece.file.path);
        let end = cut.map_or(piece.file.length, |(_, end)| *end);
        Arc::new(Segment::of(piece, end, 0))
    });
    let stream = Stream::new(id.clone(), segments.collect(), reading.next);
    if let Some(known) = known {
        stream.kept_from.store(known.kept_from, Ordering::Release);
        stream.shipped.store(known.shipped, Ordering::Release);
        if known.sealed {
            let sealed = Sealed {
                totals: reading.totals,
                last_tick: tollgate_model::Ticks(known.last_tick),
            };
            stream.sealed.get_or_init(|| sealed);
        }
    }
    let totals = StreamTotals {
        id: Some(id),
        next: Sequence(reading.next),
        totals: reading.totals,
    };
    Some((stream, totals))
}
