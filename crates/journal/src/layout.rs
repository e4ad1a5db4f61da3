//! A stream's files as they lie on disk: which segment holds which sequences. What their records
//! say is told by `reading.rs`. Reads only; recovery, `inspect` and `verify` all go through here.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::damage::{DamageKind, DamageSpot};
use crate::fs::{Filesystem, read_again, read_full_at};
use crate::scan::{Scan, Step, Tail};
use crate::segment::{HEADER_BYTES, SegmentName, decode_header};
use crate::wire::SegmentHeader;

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
