//! A stream's files as they lie on disk: which segment holds which sequences, and what its
//! records say. Reads only; recovery, `inspect` and `verify` all go through here.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::Totals;
use crate::damage::{DamageKind, DamageSpot, TornTail};
use crate::frame::{FrameHead, Kind};
use crate::fs::{Filesystem, read_again, read_full_at};
use crate::scan::{Scan, Step, Tail};
use crate::segment::{HEADER_BYTES, SegmentName, decode_header};
use crate::wire::{LedgerStream, SegmentHeader, TotalsMessage, digest_event};

/// What a segment's first bytes are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Head {
    Good(SegmentHeader),
    /// All zeros: allocated beforehand, never used; or the header is lost.
    Zero,
    Bad,
}

#[derive(Debug, Clone)]
pub(crate) struct SegmentFile {
    pub name: SegmentName,
    pub path: PathBuf,
    pub length: u64,
    pub head: Head,
}

/// A segment and the sequences that are to be read from it: `first..upper`.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub file: SegmentFile,
    pub first: u64,
    pub upper: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub pieces: Vec<Piece>,
    /// Hold nothing that is needed.
    pub unused: Vec<Piece>,
    pub damage: Vec<DamageSpot>,
}

/// Every segment in the folder, by epoch and thread, in order.
pub(crate) fn list_segments(
    fs: &dyn Filesystem,
    dir: &Path,
) -> io::Result<BTreeMap<(u64, u16), Vec<SegmentFile>>> {
    let mut names: Vec<SegmentName> = read_again(|| fs.list(dir))?
        .iter()
        .filter_map(|name| SegmentName::parse(name))
        .collect();
    names.sort_unstable();
    let mut streams: BTreeMap<(u64, u16), Vec<SegmentFile>> = BTreeMap::new();
    for name in names {
        let path = name.path(dir);
        let file = match read_head(fs, &path) {
            Ok((length, bytes)) => SegmentFile {
                name,
                length,
                head: head_of(name, &bytes),
                path,
            },
            // Deleted meanwhile, by the process that has the journal open.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => SegmentFile {
                name,
                length: read_again(|| fs.open_read(&path)?.length()).unwrap_or(0),
                head: Head::Bad,
                path,
            },
        };
        let stream = streams.entry((name.epoch, name.thread)).or_default();
        stream.push(file);
    }
    Ok(streams)
}

fn read_head(fs: &dyn Filesystem, path: &Path) -> io::Result<(u64, Vec<u8>)> {
    let file = read_again(|| fs.open_read(path))?;
    let length = read_again(|| file.length())?;
    let mut bytes = vec![0; HEADER_BYTES];
    read_full_at(&*file, &mut bytes, 0)?;
    Ok((length, bytes))
}

fn head_of(name: SegmentName, bytes: &[u8]) -> Head {
    match decode_header(name, bytes) {
        Some(header) => Head::Good(header),
        None if bytes.iter().all(|byte| *byte == 0) => Head::Zero,
        None => Head::Bad,
    }
}

fn header_spot(file: &SegmentFile) -> DamageSpot {
    DamageSpot {
        file: file.name.file_name(),
        offset: 0,
        bytes: HEADER_BYTES as u64,
        missing: 0,
        kind: DamageKind::Header,
    }
}

/// The sequences of a segment's good records, from the first that is not below `from` to one beyond
/// the last; `None` where there is nothing behind the header. An error where there is something
/// that is no record, or that cannot be read.
fn extent(
    fs: &dyn Filesystem,
    salt: u32,
    file: &SegmentFile,
    from: u64,
) -> io::Result<Option<(u64, u64)>> {
    let handle = read_again(|| fs.open_read(&file.path))?;
    let mut scan = Scan::new(handle, salt, HEADER_BYTES as u64, file.length, from);
    let mut first = None;
    loop {
        match scan.step() {
            Ok(Step::Record(head)) => first.get_or_insert(head.sequence),
            Ok(Step::Hole { .. }) => continue,
            Ok(Step::End(Tail::Torn(_))) if first.is_none() => {
                return Err(io::ErrorKind::InvalidData.into());
            }
            Ok(Step::End(Tail::Unreadable(_))) if first.is_none() => {
                return Err(io::ErrorKind::Other.into());
            }
            Ok(Step::End(_)) => break,
            Err(error) if first.is_none() => return Err(error),
            Err(_) => break,
        };
    }
    Ok(first.map(|first| (first, scan.expected())))
}

/// One beyond the last good record of the pieces so far.
fn reach(fs: &dyn Filesystem, salt: u32, pieces: &[Piece]) -> u64 {
    let readable = pieces.iter().filter(|piece| piece.first != u64::MAX);
    let ends = readable.filter_map(|piece| extent(fs, salt, &piece.file, piece.first).ok()?);
    ends.map(|(_, end)| end).max().unwrap_or(0)
}

/// Which segment holds what. A header voids what earlier segments hold from its `first` on; a
/// segment whose header cannot be read yields only what no earlier one holds. One whose header is
/// all zeros is no damage: a repair that was cut off leaves such. What could not be read is never
/// taken for unused.
pub(crate) fn lay_out(fs: &dyn Filesystem, salt: u32, files: Vec<SegmentFile>) -> Layout {
    let mut layout = Layout::default();
    for mut file in files {
        let first = match &file.head {
            Head::Good(header) => Some(header.first),
            Head::Zero | Head::Bad => {
                let reached = reach(fs, salt, &layout.pieces);
                let found = extent(fs, salt, &file, 0);
                // A header that was just being written is no damage, with nothing behind it.
                match &found {
                    Ok(None) => file.head = Head::Zero,
                    Ok(Some(_)) => {}
                    // A record that was just being written behind none.
                    Err(error)
                        if file.head == Head::Zero
                            && error.kind() == io::ErrorKind::InvalidData => {}
                    Err(_) => file.head = Head::Bad,
                }
                let found = found.unwrap_or_default();
                found
                    .filter(|(_, end)| *end > reached)
                    .map(|(first, _)| first.max(reached))
            }
        };
        layout.pieces.push(Piece {
            file,
            first: first.unwrap_or(u64::MAX),
            upper: u64::MAX,
        });
    }
    let mut upper = u64::MAX;
    for piece in layout.pieces.iter_mut().rev() {
        piece.upper = upper;
        upper = upper.min(piece.first);
    }
    // Without a header and without anything that others do not hold: allocated beforehand, or
    // left over from a repair that was cut off.
    let idle = |piece: &Piece| piece.file.head == Head::Zero && piece.first >= piece.upper;
    let (unused, pieces) = layout.pieces.into_iter().partition(idle);
    layout.pieces = pieces;
    layout.unused = unused;
    for piece in &layout.pieces {
        if piece.file.head == Head::Bad {
            layout.damage.push(header_spot(&piece.file));
        }
    }
    layout
}

/// What reading a stream needs to know beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask {
    /// Records from here on go to the sink.
    pub replay_from: Option<u64>,
    /// The stream went at least so far.
    pub known_next: u64,
    /// Whether the stream may have been cut off while it was written.
    pub open_ended: bool,
    /// Totals before the first entry that is kept, for where no header tells them.
    pub totals: Totals,
}

/// What reading a stream told.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// One beyond the last entry, readable or not.
    pub next: u64,
    pub totals: Totals,
    pub last_tick: u64,
    /// The latest moment before which everything is known to be on disk.
    pub synced_at: u64,
    pub records: u64,
    /// How many bytes of the last file are in use, where what follows may be cut off.
    pub cut: Option<(PathBuf, u64)>,
    pub torn: Option<TornTail>,
    pub damage: Vec<DamageSpot>,
    /// Whether nothing that was to be replayed is missing.
    pub whole: bool,
    /// Whether some of it could not be read.
    pub broken: bool,
}

/// Reads from the latest segment that knows the totals before it and begins early enough.
pub(crate) fn read_pieces(
    fs: &dyn Filesystem,
    salt: u32,
    pieces: &[Piece],
    ask: Ask,
    sink: &mut dyn FnMut(&FrameHead, &[u8]) -> bool,
) -> Reading {
    let wanted = ask.replay_from.unwrap_or(u64::MAX);
    let knows = |piece: &Piece| match &piece.file.head {
        Head::Good(header) if piece.first < piece.upper && piece.first <= wanted => {
            header.totals.as_ref().map(TotalsMessage::read)
        }
        _ => None,
    };
    let base = pieces
        .iter()
        .enumerate()
        .rev()
        .find_map(|(place, piece)| knows(piece).map(|totals| (place, totals)));
    let (start, totals) = base.unwrap_or((0, ask.totals));
    let mut reading = Reading {
        totals,
        whole: true,
        ..Reading::default()
    };
    let usable = pieces.iter().skip(start);
    let mut usable = usable.filter(|piece| piece.first < piece.upper).peekable();
    reading.next = usable.peek().map_or(0, |piece| piece.first);
    while let Some(piece) = usable.next() {
        let last = usable.peek().is_none();
        read_piece(fs, salt, piece, ask, last, &mut reading, sink);
    }
    reading.broken = !reading.damage.is_empty();
    reading
}

/// How far a stream goes and what it sums up to, as the ledger has it where the stream has ended;
/// else, or with `replay_from`, as its segments have it.
pub(crate) fn read_end(
    fs: &dyn Filesystem,
    salt: u32,
    pieces: &[Piece],
    known: Option<&LedgerStream>,
    replay_from: Option<u64>,
) -> Reading {
    let Some(sealed) = known.filter(|known| known.sealed) else {
        let ask = Ask {
            replay_from,
            known_next: 0,
            open_ended: true,
            totals: known
                .and_then(|known| known.totals.as_ref())
                .map_or(Totals::default(), TotalsMessage::read),
        };
        return read_pieces(fs, salt, pieces, ask, &mut |_, _| true);
    };
    let mut reading = Reading::default();
    if replay_from.is_some() {
        let ask = Ask {
            replay_from,
            known_next: sealed.next,
            open_ended: false,
            totals: Totals::default(),
        };
        reading = read_pieces(fs, salt, pieces, ask, &mut |_, _| true);
    }
    reading.next = reading.next.max(sealed.next);
    if let Some(totals) = &sealed.totals {
        reading.totals = totals.read();
    }
    reading
}

fn read_piece(
    fs: &dyn Filesystem,
    salt: u32,
    piece: &Piece,
    ask: Ask,
    last: bool,
    reading: &mut Reading,
    sink: &mut dyn FnMut(&FrameHead, &[u8]) -> bool,
) {
    let start = HEADER_BYTES as u64;
    // What lies behind the end of a stream that has one is a tail that could not be cut off.
    let upper = match ask.open_ended {
        false if last => piece.upper.min(ask.known_next.max(piece.first)),
        _ => piece.upper,
    };
    let file = read_again(|| fs.open_read(&piece.file.path));
    let mut scan = file
        .ok()
        .map(|file| Scan::new(file, salt, start, piece.file.length, piece.first));
    let mut tail = Tail::Clean;
    while let Some(scan) = scan.as_mut().filter(|scan| scan.expected() < upper) {
        match scan.step() {
            Ok(Step::Record(head)) => take(reading, ask, &head, scan.payload(), sink),
            Ok(Step::Hole {
                offset,
                bytes,
                missing,
            }) => {
                let to = scan.expected().min(upper);
                let from = to.saturating_sub(missing);
                lose(reading, ask, piece, (from, to), (offset, bytes));
            }
            Ok(Step::End(end)) => {
                tail = end;
                break;
            }
            Err(_) => {
                tail = Tail::Unreadable(0);
                break;
            }
        }
    }
    let (reached, offset) = match &scan {
        Some(scan) => (scan.expected(), scan.position()),
        None => (piece.first, start),
    };
    reading.next = reached.min(upper);
    let bytes = match tail {
        Tail::Clean => 0,
        Tail::Torn(bytes) | Tail::Unreadable(bytes) => bytes,
    };
    let must = if last { ask.known_next } else { piece.upper };
    if reading.next < must || scan.is_none() {
        lose(
            reading,
            ask,
            piece,
            (reading.next, must.max(reading.next)),
            (offset, bytes),
        );
        reading.next = reading.next.max(must);
    } else if last {
        finish(reading, ask, piece, tail, offset);
    }
}

/// The end of the last segment.
fn finish(reading: &mut Reading, ask: Ask, piece: &Piece, tail: Tail, offset: u64) {
    match tail {
        Tail::Torn(bytes) if ask.open_ended => {
            reading.torn = Some(TornTail {
                file: piece.file.name.file_name(),
                offset,
                bytes,
            });
        }
        Tail::Torn(bytes) | Tail::Unreadable(bytes) => {
            let next = reading.next;
            lose(reading, ask, piece, (next, next), (offset, bytes));
            reading.whole &= ask.replay_from.is_none();
            return;
        }
        Tail::Clean => {}
    }
    let ours = ask.open_ended || piece.first <= ask.known_next;
    if ours && offset < piece.file.length {
        reading.cut = Some((piece.file.path.clone(), offset));
    }
}

fn take(
    reading: &mut Reading,
    ask: Ask,
    head: &FrameHead,
    payload: &[u8],
    sink: &mut dyn FnMut(&FrameHead, &[u8]) -> bool,
) {
    reading.records += 1;
    reading.last_tick = reading.last_tick.max(head.at.0);
    reading.synced_at = reading.synced_at.max(head.synced_at.0);
    if head.kind == Kind::Event
        && let Ok(digest) = digest_event(payload)
    {
        reading.totals.add(digest.outcome, digest.units);
    }
    if ask.replay_from.is_some_and(|from| head.sequence >= from) {
        reading.whole &= sink(head, payload);
    }
}

/// Entries `lost.0..lost.1` cannot be read; `place` is offset and length of the bytes.
fn lose(reading: &mut Reading, ask: Ask, piece: &Piece, lost: (u64, u64), place: (u64, u64)) {
    if ask
        .replay_from
        .is_some_and(|from| lost.1 > from && lost.1 > lost.0)
    {
        reading.whole = false;
    }
    reading.damage.push(DamageSpot {
        file: piece.file.name.file_name(),
        offset: place.0,
        bytes: place.1,
        missing: lost.1.saturating_sub(lost.0),
        kind: if place.1 > 0 {
            DamageKind::Record
        } else {
            DamageKind::Missing
        },
    });
}
