//! A request as the account of what happened has it.

use tollgate_model::{Outcome, RequestId, Timestamp};

use crate::market::{Name, Price};

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Forwarded and not ended.
    Aloft,
    /// Ended; the units of its record.
    Ended(Outcome, u64),
    /// Refused.
    Refused,
    /// The gateway died over it.
    Orphaned,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    pub(crate) price: Price,
    pub(crate) lossy: bool,
    pub(crate) at: u64,
    pub(crate) ended_at: u64,
    pub(crate) names: Vec<Name>,
    pub(crate) periods: (Option<Timestamp>, Option<Timestamp>),
    pub(crate) phase: Phase,
    /// Units on windows and on quotas.
    pub(crate) units: (u64, u64),
    /// Its client has the last byte.
    pub(crate) acknowledged: bool,
    /// A power cut may have taken its record: the start said so.
    pub(crate) excused: bool,
    /// A power cut may have taken its admission.
    pub(crate) forgotten: bool,
    pub(crate) delivered: bool,
    /// It had not ended, or nobody had heard of its end, when its gateway died.
    pub(crate) buried: bool,
}
