//! Writing Protocol Buffers fields without owning what they hold.
//!
//! Fields at their default (zero, empty) are left out, as proto3 has it; `some_*` writes them
//! anyway, for fields where absent means something else.

use tollgate_model::Timestamp;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(out: &mut Vec<u8>, tag: u32, kind: u32) {
    varint(out, u64::from(tag << 3 | kind));
}

pub(super) fn some_number(out: &mut Vec<u8>, tag: u32, value: u64) {
    key(out, tag, VARINT);
    varint(out, value);
}

pub(super) fn number(out: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        some_number(out, tag, value);
    }
}

/// As `sint64`: small for instants on either side of the epoch.
pub(super) fn some_instant(out: &mut Vec<u8>, tag: u32, at: Timestamp) {
    some_number(out, tag, ((at.0 << 1) ^ (at.0 >> 63)) as u64);
}

pub(super) fn instant(out: &mut Vec<u8>, tag: u32, at: Timestamp) {
    if at.0 != 0 {
        some_instant(out, tag, at);
    }
}

pub(super) fn fixed(out: &mut Vec<u8>, tag: u32, value: u64) {
    if value != 0 {
        key(out, tag, FIXED64);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub(super) fn some_bytes(out: &mut Vec<u8>, tag: u32, value: &[u8]) {
    key(out, tag, BYTES);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

pub(super) fn text(out: &mut Vec<u8>, tag: u32, value: &str) {
    if !value.is_empty() {
        some_bytes(out, tag, value.as_bytes());
    }
}

pub(super) fn some_text(out: &mut Vec<u8>, tag: u32, value: Option<&str>) {
    if let Some(value) = value {
        some_bytes(out, tag, value.as_bytes());
    }
}

/// A message inside a message. Its length is known only afterwards: one byte is kept for it, and
/// the rare longer message (from 128 bytes) is moved to make room.
pub(super) fn nested(out: &mut Vec<u8>, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, tag, BYTES);
    let place = out.len();
    out.push(0);
    write(out);
    let length = out.len() - place - 1;
    if length < 0x80 {
        if let Some(byte) = out.get_mut(place) {
            *byte = length as u8;
        }
    } else {
        let mut prefix = Vec::with_capacity(5);
        varint(&mut prefix, length as u64);
        out.splice(place..=place, prefix);
    }
}
