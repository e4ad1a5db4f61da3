//! Going through the records of one segment, over damage too.
//!
//! Bytes that are no record are skipped up to the next offset at which a record passes its
//! checksum and carries a sequence not yet seen; so nothing is delivered altered or twice. Blocks
//! that the disk refuses to read count as such bytes.

use std::io;
use std::sync::Arc;

use crate::frame::{self, FRAME_BYTES, FrameHead, MAGIC};
use crate::fs::{FileHandle, read_full_at};

const WINDOW_BYTES: u64 = 256 * 1024;
const BLOCK_BYTES: u64 = 4096;

/// What lies behind the last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Zeros, or nothing.
    Clean,
    /// This many bytes up to the last that is not zero.
    Torn(u64),
    /// The disk refused to read some of it.
    Unreadable(u64),
}

/// One step through a segment.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record; [`Scan::payload`] is its payload until the next step.
    Record(FrameHead),
    /// Bytes that are no record, with a record behind them.
    Hole {
        offset: u64,
        bytes: u64,
        missing: u64,
    },
    /// No further record.
    End(Tail),
}

/// What lies behind bytes that are no record.
enum Found {
    Record {
        offset: u64,
        sequence: u64,
    },
    /// And where the last byte is that is not zero.
    Nothing {
        last_byte: Option<u64>,
    },
}

/// A pass over one segment.
pub(crate) struct Scan {
    file: Arc<dyn FileHandle>,
    salt: u32,
    position: u64,
    end: u64,
    expected: u64,
    window: Vec<u8>,
    window_at: u64,
    unreadable: bool,
    payload: std::ops::Range<usize>,
}

impl Scan {
    /// From `position`, where the record `expected` should begin, to `end` (bytes of the file).
    pub(crate) fn new(
        file: Arc<dyn FileHandle>,
        salt: u32,
        position: u64,
        end: u64,
        expected: u64,
    ) -> Self {
        Self {
            file,
            salt,
            position,
            end,
            expected,
            window: Vec::new(),
            window_at: 0,
            unreadable: false,
            payload: 0..0,
        }
    }

    /// Where the next record should begin.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Sequence of the next record.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// More bytes were written.
    pub(crate) fn extend_to(&mut self, end: u64) {
        if end != self.end {
            self.end = end;
            self.window.clear();
        }
    }

    /// Payload of the record just returned.
    pub(crate) fn payload(&self) -> &[u8] {
        self.window.get(self.payload.clone()).unwrap_or_default()
    }

    /// The next record, hole, or the end.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        while let Some((head, payload)) = self.record_at(self.position)? {
            if head.sequence > self.expected {
                return Ok(self.hole(self.position, head.sequence));
            }
            if head.sequence == self.expected {
                return Ok(self.take(head, payload));
            }
            // Seen before, in this segment or an earlier one.
            self.position += head.bytes as u64;
        }
        if self.position >= self.end {
            return Ok(Step::End(Tail::Clean));
        }
        let last_byte = match self.search(self.position)? {
            Found::Record { offset, sequence } => return self.hole_or_late(offset, sequence),
            Found::Nothing { last_byte } => last_byte,
        };
        let bytes = last_byte.map_or(0, |last| last + 1 - self.position);
        Ok(Step::End(match (self.unreadable, bytes) {
            (true, _) => Tail::Unreadable(bytes),
            (false, 0) => Tail::Clean,
            (false, _) => Tail::Torn(bytes),
        }))
    }

    fn take(&mut self, head: FrameHead, payload: std::ops::Range<usize>) -> Step {
        self.payload = payload;
        self.position += head.bytes as u64;
        self.expected += 1;
        Step::Record(head)
    }

    /// A record was found behind bytes that were none. Beside the process that writes, the record
    /// that is missing may have been written after its place was read and before the one behind.
    fn hole_or_late(&mut self, offset: u64, sequence: u64) -> io::Result<Step> {
        self.window.clear();
        if self.record_at(self.position)?.is_some() {
            return self.step();
        }
        Ok(self.hole(offset, sequence))
    }

    fn hole(&mut self, offset: u64, sequence: u64) -> Step {
        let step = Step::Hole {
            offset: self.position,
            bytes: offset - self.position,
            missing: sequence - self.expected,
        };
        self.position = offset;
        self.expected = sequence;
        step
    }

    /// The record at this offset, if its bytes are one.
    fn record_at(
        &mut self,
        offset: u64,
    ) -> io::Result<Option<(FrameHead, std::ops::Range<usize>)>> {
        let claimed = frame::claimed_bytes(self.bytes_at(offset, FRAME_BYTES as u64)?);
        let Some(claimed) = claimed else {
            return Ok(None);
        };
        let salt = self.salt;
        let bytes = self.bytes_at(offset, claimed as u64)?;
        let Some((head, _)) = frame::parse(salt, bytes) else {
            return Ok(None);
        };
        let start = (offset - self.window_at) as usize;
        Ok(Some((head, start + FRAME_BYTES..start + head.bytes)))
    }

    /// The first record from `from` on with a sequence not yet seen; and the last byte that is not
    /// zero, where there is no such record.
    fn search(&mut self, from: u64) -> io::Result<Found> {
        let mut at = from;
        let mut last_byte = None;
        while at < self.end {
            let bytes = self.bytes_at(at, FRAME_BYTES as u64)?;
            let length = bytes.len() as u64;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                last_byte = Some(at + last as u64);
            }
            let candidate = bytes.iter().position(|byte| Some(byte) == MAGIC.first());
            let Some(place) = candidate.map(|place| at + place as u64) else {
                at += length.max(1);
                continue;
            };
            if let Some((head, _)) = self.record_at(place)?
                && head.sequence >= self.expected
            {
                return Ok(Found::Record {
                    offset: place,
                    sequence: head.sequence,
                });
            }
            at = place + 1;
        }
        Ok(Found::Nothing { last_byte })
    }

    /// At least `want` bytes from `offset`, fewer only at the end.
    fn bytes_at(&mut self, offset: u64, want: u64) -> io::Result<&[u8]> {
        let want = want.min(self.end.saturating_sub(offset));
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + want > window_end {
            self.fill(offset, want)?;
        }
        let start = (offset - self.window_at) as usize;
        Ok(self.window.get(start..).unwrap_or_default())
    }

    fn fill(&mut self, offset: u64, want: u64) -> io::Result<()> {
        let length = want.max(WINDOW_BYTES).min(self.end.saturating_sub(offset));
        self.window.clear();
        self.window.resize(length as usize, 0);
        self.window_at = offset;
        match read_full_at(&*self.file, &mut self.window, offset) {
            // A file cut short reads as zeros up to the end that was asked for.
            Ok(_) => Ok(()),
            Err(_) => self.fill_by_block(offset),
        }
    }

    /// Zeros where the disk gives nothing.
    fn fill_by_block(&mut self, offset: u64) -> io::Result<()> {
        let mut at = offset;
        let mut rest = self.window.as_mut_slice();
        while !rest.is_empty() {
            let to_block_end = (BLOCK_BYTES - at % BLOCK_BYTES) as usize;
            let (block, behind) = rest.split_at_mut(to_block_end.min(rest.len()));
            match read_full_at(&*self.file, block, at) {
                Ok(_) => {}
                Err(error) if is_bad_block(&error) => {
                    self.unreadable = true;
                    block.fill(0);
                }
                Err(error) => return Err(error),
            }
            at += block.len() as u64;
            rest = behind;
        }
        Ok(())
    }
}

/// EIO: the medium, not the caller.
fn is_bad_block(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
