//! Segment files: their names and headers.
//!
//! ```text
//! name    <epoch>-<thread>-<index>.seg, decimal, padded to 10, 5 and 10 digits
//!
//! 0       8      12      16                          512
//! | magic | crc  | bytes | SegmentHeader | zeros ... | records ...  | zeros to the allocated end
//! ```
//! A file whose header is all zeros was allocated beforehand and never came into use.

use std::path::{Path, PathBuf};

use prost::Message;

use crate::wire::SegmentHeader;

/// Where records begin.
pub(crate) const HEADER_BYTES: usize = 512;
const MAGIC: &[u8; 8] = b"TGseg\x00\x01\n";
const PREFIX_BYTES: usize = 16;
/// Highest epoch that a file name may carry.
const EPOCH_MAX: u64 = 1 << 40;

/// Which segment of which stream, as its file name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub epoch: u64,
    pub thread: u16,
    pub index: u64,
}

impl SegmentName {
    pub(crate) fn file_name(self) -> String {
        format!(
            "{:010}-{:05}-{:010}.seg",
            self.epoch, self.thread, self.index
        )
    }

    pub(crate) fn path(self, dir: &Path) -> PathBuf {
        dir.join(self.file_name())
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".seg")?.split('-');
        let parsed = Self {
            epoch: parts.next()?.parse().ok()?,
            thread: parts.next()?.parse().ok()?,
            index: parts.next()?.parse().ok()?,
        };
        // A name that is written otherwise is not ours to touch, nor one of an epoch that no clock
        // leads to: the next could not be above it.
        let ours = parsed.epoch <= EPOCH_MAX && parsed.file_name() == name;
        (parts.next().is_none() && ours).then_some(parsed)
    }
}

/// The header as it stands in the file.
pub(crate) fn encode_header(header: &SegmentHeader) -> Vec<u8> {
    let payload = header.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&payload);
    // A node's name is bounded so that this never cuts anything off.
    bytes.resize(HEADER_BYTES, 0);
    let crc = crc32fast::hash(bytes.get(12..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(8..12) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// Reads a header and checks that it belongs to the file of this name.
pub(crate) fn decode_header(name: SegmentName, bytes: &[u8]) -> Option<SegmentHeader> {
    let bytes = bytes.get(..HEADER_BYTES)?;
    let crc = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
    let length = u32::from_le_bytes(bytes.get(12..PREFIX_BYTES)?.try_into().ok()?) as usize;
    if !bytes.starts_with(MAGIC) || crc32fast::hash(bytes.get(12..)?) != crc {
        return None;
    }
    let payload = bytes.get(PREFIX_BYTES..PREFIX_BYTES.checked_add(length)?)?;
    let header = SegmentHeader::decode(payload).ok()?;
    let ours = header.epoch == name.epoch
        && header.thread == u32::from(name.thread)
        && header.index == name.index;
    ours.then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OutcomeTotals;
    use crate::wire::TotalsMessage;

    #[test]
    fn names_read_back_and_foreign_ones_are_left_alone() {
        let name = SegmentName {
            epoch: 7,
            thread: 3,
            index: 12,
        };
        assert_eq!(name.file_name(), "0000000007-00003-0000000012.seg");
        assert_eq!(SegmentName::parse(&name.file_name()), Some(name));
        for foreign in [
            "7-3-12.seg",
            "a.seg",
            "0000000007-00003-0000000012.seg.old",
            "18446744073709551615-00003-0000000012.seg",
        ] {
            assert_eq!(SegmentName::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_largest_header_fits() {
        let name = SegmentName {
            epoch: u64::MAX,
            thread: u16::MAX,
            index: u64::MAX,
        };
        let header = SegmentHeader {
            node: "n".repeat(crate::options::NODE_BYTES_MAX),
            epoch: u64::MAX,
            thread: u32::from(u16::MAX),
            index: u64::MAX,
            first: u64::MAX,
            began_at: u64::MAX,
            totals: Some(TotalsMessage::of(&OutcomeTotals {
                events: [u64::MAX; 7],
                units: [u64::MAX; 7],
            })),
        };
        let bytes = encode_header(&header);
        assert_eq!(decode_header(name, &bytes), Some(header));
    }
}
