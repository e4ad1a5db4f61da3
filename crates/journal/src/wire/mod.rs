//! How entries, headers and small files look as bytes: Protocol Buffers messages.
//!
//! What is written per request is encoded by hand straight from the model's borrowed fields, so
//! that an append allocates nothing; the same messages are declared once more for prost, which
//! decodes them, and the tests hold the two against each other. Field numbers are never reused.

mod encode;
mod event;
mod files;
mod grants;

pub(crate) use event::{decode_event, digest_event, encode_event};
pub(crate) use files::{CheckpointFile, Ledger, LedgerStream, SegmentHeader, State, TotalsMessage};
pub(crate) use grants::{decode_grant, encode_grant};

/// The bytes pass their checksum but say something that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl From<prost::DecodeError> for Unreadable {
    fn from(_: prost::DecodeError) -> Self {
        Self
    }
}
