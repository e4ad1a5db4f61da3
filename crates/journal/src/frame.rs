//! One record: a fixed header, then the payload. The drawing is in the crate's header.
//!
//! The checksum covers the header behind it and the payload, and begins from a value made of
//! epoch and thread, so that bytes of another stream (a block that the filesystem gave back
//! unwritten, a file under a wrong name) never pass for a record of this one. The magic has bytes
//! that no text in a payload can have, so that no caller can send something that looks like one.

use tollgate_model::Ticks;

pub(crate) const FRAME_BYTES: usize = 36;
pub(crate) const MAGIC: [u8; 4] = [0xff, b'T', b'g', 0xfe];
/// Raised with what counters are called: charges and marks of version 1 name them otherwise.
const VERSION: u8 = 2;
/// A sync age that says nothing: what would not fit must not pass for a younger one.
const AGE_UNKNOWN: u32 = u32::MAX;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Event,
    Grant,
    Progress,
    /// Another version's.
    Unknown,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Event => 1,
            Self::Grant => 2,
            Self::Progress => 3,
        }
    }

    const fn of(code: u8, version: u8) -> Self {
        match (code, version) {
            (1, VERSION) => Self::Event,
            (2, VERSION) => Self::Grant,
            (3, VERSION) => Self::Progress,
            _ => Self::Unknown,
        }
    }
}

/// What a record's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub kind: Kind,
    pub sequence: u64,
    /// When it was appended.
    pub at: Ticks,
    /// At that moment, everything appended to any stream before this tick was on disk; 0 where
    /// the last sync was too long ago (71 minutes) to be told.
    pub synced_at: Ticks,
    /// Header and payload.
    pub bytes: usize,
}

/// Where the checksums of a stream begin.
pub(crate) fn salt_of(epoch: u64, thread: u16) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&epoch.to_le_bytes());
    hasher.update(&thread.to_le_bytes());
    hasher.finalize()
}

/// Starts a record in an emptied buffer: the payload is appended behind.
pub(crate) fn begin(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(FRAME_BYTES, 0);
}

fn put<const N: usize>(buffer: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = buffer.get_mut(at..at + N) {
        place.copy_from_slice(&bytes);
    }
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Fills in the header of the record in the buffer.
pub(crate) fn finish(
    buffer: &mut [u8],
    salt: u32,
    kind: Kind,
    sequence: u64,
    at: Ticks,
    synced_at: Ticks,
) {
    let length = buffer.len().saturating_sub(FRAME_BYTES);
    let age = u32::try_from(at.since(synced_at)).unwrap_or(AGE_UNKNOWN);
    put(buffer, 0, MAGIC);
    put(buffer, 8, (length as u32).to_le_bytes());
    put(buffer, 12, [kind.code(), VERSION, 0, 0]);
    put(buffer, 16, sequence.to_le_bytes());
    put(buffer, 24, at.0.to_le_bytes());
    put(buffer, 32, age.to_le_bytes());
    let crc = checksum(salt, buffer);
    put(buffer, 4, crc.to_le_bytes());
}

fn checksum(salt: u32, record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(record.get(8..).unwrap_or_default());
    hasher.finalize()
}

/// Length of the record that begins here, as its header claims; `None` where none begins.
pub(crate) fn claimed_bytes(head: &[u8]) -> Option<usize> {
    if get::<4>(head, 0)? != MAGIC {
        return None;
    }
    let length = u32::from_le_bytes(get::<4>(head, 8)?);
    Some(FRAME_BYTES + length as usize)
}

/// Checks and reads the record that begins here; bytes may follow it.
pub(crate) fn parse(salt: u32, bytes: &[u8]) -> Option<(FrameHead, &[u8])> {
    let total = claimed_bytes(bytes)?;
    let record = bytes.get(..total)?;
    if u32::from_le_bytes(get::<4>(record, 4)?) != checksum(salt, record) {
        return None;
    }
    let [kind, version] = get::<2>(record, 12)?;
    let at = u64::from_le_bytes(get::<8>(record, 24)?);
    let age = u32::from_le_bytes(get::<4>(record, 32)?);
    let synced_at = match age {
        AGE_UNKNOWN => 0,
        known => at.saturating_sub(u64::from(known)),
    };
    let head = FrameHead {
        kind: Kind::of(kind, version),
        sequence: u64::from_le_bytes(get::<8>(record, 16)?),
        at: Ticks(at),
        synced_at: Ticks(synced_at),
        bytes: total,
    };
    Some((head, record.get(FRAME_BYTES..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let mut buffer = Vec::new();
        begin(&mut buffer);
        buffer.extend_from_slice(b"payload");
        finish(&mut buffer, 7, Kind::Grant, 42, Ticks(1_000), Ticks(400));
        buffer
    }

    #[test]
    fn a_record_reads_back_with_bytes_behind_it() {
        let mut bytes = record();
        bytes.extend_from_slice(&[1, 2, 3]);
        let (head, payload) = parse(7, &bytes).unwrap();
        assert_eq!(payload, b"payload");
        assert_eq!((head.kind, head.sequence), (Kind::Grant, 42));
        assert_eq!((head.at, head.synced_at), (Ticks(1_000), Ticks(400)));
    }

    #[test]
    fn a_sync_too_long_ago_to_be_told_is_not_taken_for_a_later_one() {
        let hour_us = 3_600_000_000;
        let (at, synced_at) = (Ticks(9 * hour_us), Ticks(7 * hour_us));
        let mut buffer = Vec::new();
        begin(&mut buffer);
        finish(&mut buffer, 7, Kind::Grant, 42, at, synced_at);
        let (head, _) = parse(7, &buffer).unwrap();
        assert!(head.synced_at <= synced_at, "{head:?}");
    }

    #[test]
    fn no_flipped_bit_and_no_other_stream_passes() {
        let good = record();
        assert!(parse(8, &good).is_none());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(7, &bad).is_none(), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(parse(7, &good[..length]).is_none());
        }
    }
}
