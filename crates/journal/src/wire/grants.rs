//! Marks and charges as bytes.

use prost::Message;
use tollgate_model::{Charge, CounterId, CounterKind, Mark, Per, Ticks, Timestamp};

use super::{Unreadable, encode};

/// A counter's name and kind as fields 1 to 4 of every message that speaks of a counter.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct CounterMessage {
    #[prost(fixed64, tag = "1")]
    pub high: u64,
    #[prost(fixed64, tag = "2")]
    pub low: u64,
    /// 1 second, 2 minute, 3 hour, 4 day; 0 a quota.
    #[prost(uint32, tag = "3")]
    pub per: u32,
    #[prost(sint64, tag = "4")]
    pub ends_at: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ChargeMessage {
    #[prost(fixed64, tag = "1")]
    high: u64,
    #[prost(fixed64, tag = "2")]
    low: u64,
    #[prost(uint32, tag = "3")]
    per: u32,
    #[prost(sint64, tag = "4")]
    ends_at: i64,
    #[prost(uint64, tag = "5")]
    reserved: u64,
    #[prost(uint64, tag = "6")]
    kept: u64,
    #[prost(uint64, tag = "7")]
    at: u64,
    #[prost(uint64, tag = "8")]
    round: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct MarkMessage {
    #[prost(fixed64, tag = "1")]
    high: u64,
    #[prost(fixed64, tag = "2")]
    low: u64,
    #[prost(uint32, tag = "3")]
    per: u32,
    #[prost(sint64, tag = "4")]
    ends_at: i64,
    #[prost(uint64, tag = "5")]
    granted: u64,
    #[prost(uint64, tag = "6")]
    at: u64,
    #[prost(uint64, tag = "7")]
    began: u64,
}

#[derive(Clone, PartialEq, Message)]
struct GrantMessage {
    #[prost(message, repeated, tag = "1")]
    marks: Vec<MarkMessage>,
}

fn per_code(per: Per) -> u32 {
    match per {
        Per::Second => 1,
        Per::Minute => 2,
        Per::Hour => 3,
        Per::Day => 4,
    }
}

impl CounterMessage {
    pub(super) fn of(counter: CounterId, kind: CounterKind) -> Self {
        let (per, ends_at) = match kind {
            CounterKind::Window(per) => (per_code(per), 0),
            CounterKind::Quota { ends_at } => (0, ends_at.0),
        };
        Self {
            high: (counter.0 >> 64) as u64,
            low: counter.0 as u64,
            per,
            ends_at,
        }
    }

    pub(super) fn id(&self) -> CounterId {
        CounterId(u128::from(self.high) << 64 | u128::from(self.low))
    }

    pub(super) fn kind(&self) -> Result<CounterKind, Unreadable> {
        Ok(match self.per {
            0 => CounterKind::Quota {
                ends_at: Timestamp(self.ends_at),
            },
            1 => CounterKind::Window(Per::Second),
            2 => CounterKind::Window(Per::Minute),
            3 => CounterKind::Window(Per::Hour),
            4 => CounterKind::Window(Per::Day),
            _ => return Err(Unreadable),
        })
    }

    fn encode_fields(self, out: &mut Vec<u8>) {
        encode::fixed(out, 1, self.high);
        encode::fixed(out, 2, self.low);
        encode::number(out, 3, u64::from(self.per));
        encode::instant(out, 4, Timestamp(self.ends_at));
    }
}

pub(super) fn encode_charge(out: &mut Vec<u8>, tag: u32, charge: &Charge) {
    encode::nested(out, tag, |out| {
        CounterMessage::of(charge.counter, charge.kind).encode_fields(out);
        encode::number(out, 5, charge.reserved);
        encode::number(out, 6, charge.kept);
        encode::number(out, 7, charge.at.0);
        encode::number(out, 8, charge.round);
    });
}

impl ChargeMessage {
    pub(super) fn read(&self) -> Result<Charge, Unreadable> {
        let counter = CounterMessage {
            high: self.high,
            low: self.low,
            per: self.per,
            ends_at: self.ends_at,
        };
        Ok(Charge {
            counter: counter.id(),
            kind: counter.kind()?,
            reserved: self.reserved,
            kept: self.kept,
            at: Ticks(self.at),
            round: self.round,
        })
    }
}

/// Appends the payload of a grant.
pub(crate) fn encode_grant(out: &mut Vec<u8>, marks: &[Mark]) {
    for mark in marks {
        encode::nested(out, 1, |out| {
            CounterMessage::of(mark.counter, mark.kind).encode_fields(out);
            encode::number(out, 5, mark.granted);
            encode::number(out, 6, mark.at.0);
            encode::number(out, 7, mark.began.0);
        });
    }
}

/// Reads the payload of a grant.
pub(crate) fn decode_grant(payload: &[u8]) -> Result<Vec<Mark>, Unreadable> {
    let message = GrantMessage::decode(payload)?;
    let read = |mark: &MarkMessage| {
        let counter = CounterMessage {
            high: mark.high,
            low: mark.low,
            per: mark.per,
            ends_at: mark.ends_at,
        };
        Ok(Mark {
            counter: counter.id(),
            kind: counter.kind()?,
            granted: mark.granted,
            at: Ticks(mark.at),
            began: Ticks(mark.began),
        })
    };
    message.marks.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_read_back_and_are_what_prost_would_write() {
        let marks = [
            Mark {
                counter: CounterId(u128::MAX - 5),
                kind: CounterKind::Window(Per::Day),
                granted: u64::MAX,
                at: Ticks(9),
                began: Ticks(4),
            },
            Mark {
                counter: CounterId(3),
                kind: CounterKind::Quota {
                    ends_at: Timestamp(-7),
                },
                granted: 0,
                at: Ticks(0),
                began: Ticks(0),
            },
        ];
        let mut bytes = Vec::new();
        encode_grant(&mut bytes, &marks);
        assert_eq!(decode_grant(&bytes).unwrap(), marks);
        let message = GrantMessage::decode(bytes.as_slice()).unwrap();
        assert_eq!(message.encode_to_vec(), bytes);
    }
    #[test]
    fn every_kind_of_counter_reads_back_and_an_unknown_one_is_no_other() {
        for kind in [
            CounterKind::Window(Per::Second),
            CounterKind::Window(Per::Minute),
            CounterKind::Window(Per::Hour),
            CounterKind::Window(Per::Day),
            CounterKind::Quota {
                ends_at: Timestamp(8),
            },
        ] {
            let mark = Mark {
                counter: CounterId(1 << 64 | 2),
                kind,
                granted: 3,
                at: Ticks(4),
                began: Ticks(5),
            };
            let mut bytes = Vec::new();
            encode_grant(&mut bytes, &[mark]);
            assert_eq!(decode_grant(&bytes).unwrap(), [mark]);
        }
        let mut message = CounterMessage::of(CounterId(1), CounterKind::Window(Per::Day));
        message.per = 5;
        assert_eq!(message.kind(), Err(Unreadable));
    }
}
