//! What the records of a stream's segments say, from a segment that knows the totals before it to
//! the end: totals, the last tick, what is surely on disk, damage, a torn tail. Which segment holds
//! what is decided in `layout.rs`. Reads only.

use std::path::PathBuf;

use crate::OutcomeTotals;
use crate::damage::{DamageKind, DamageSpot, TornTail};
use crate::frame::{FrameHead, Kind};
use crate::fs::{Filesystem, read_again};
use crate::layout::{Head, Piece};
use crate::scan::{Scan, Step, Tail};
use crate::segment::HEADER_BYTES;
use crate::wire::{LedgerStream, TotalsMessage, digest_event};

/// What reading a stream needs to know beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask {
    /// Records from here on go to the sink.
    pub replay_from: Option<u64>,
    /// The stream went at least so far.
    pub known_next: u64,
    /// Whether the stream may have been cut off while it was written.
    pub open_ended: bool,
    /// OutcomeTotals before the first entry that is kept, for where no header tells them.
    pub totals: OutcomeTotals,
}

/// What reading a stream told.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// One beyond the last entry, readable or not.
    pub next: u64,
    pub totals: OutcomeTotals,
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
                .map_or(OutcomeTotals::default(), TotalsMessage::read),
        };
        return read_pieces(fs, salt, pieces, ask, &mut |_, _| true);
    };
    let mut reading = Reading::default();
    if replay_from.is_some() {
        let ask = Ask {
            replay_from,
            known_next: sealed.next,
            open_ended: false,
            totals: OutcomeTotals::default(),
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
        // It ends before what a checkpoint had waited for: nobody knows how far it went.
        reading.whole &= !(last && ask.open_ended && ask.replay_from.is_some());
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
        // Not behind an end that is known: nothing is looked for there.
        Tail::Torn(bytes) => {
            reading.torn = Some(TornTail {
                file: piece.file.name.file_name(),
                offset,
                bytes,
            });
        }
        Tail::Unreadable(bytes) => {
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
