//! Rate limits over sliding windows, and quotas over civil periods.

use crate::LimitId;

/// The length of a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// 1 s.
    Second,
    /// 60 s.
    Minute,
    /// 3 600 s.
    Hour,
    /// 86 400 s, not a civil day.
    Day,
}

impl Per {
    /// All windows, shortest first.
    pub const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    /// The span in microseconds.
    #[must_use]
    pub const fn span_us(self) -> u64 {
        match self {
            Self::Second => 1_000_000,
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
            Self::Day => 86_400_000_000,
        }
    }

    /// As it stands in the catalog and in limit names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Reads the catalog's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|per| per.as_str() == text)
    }
}

/// The length of a quota's or price's period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Every {
    /// A civil day.
    Day,
    /// A civil week, from Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Every {
    /// All periods, shortest first.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Year];

    /// As it stands in the catalog and in limit names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    /// Reads the catalog's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|every| every.as_str() == text)
    }
}

/// Whose counter a limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// All keys of a subscription together (the default): more keys never mean more calls.
    Subscription,
    /// Each key family alone; rotation stays in the family.
    Key,
    /// All subscriptions of an organization together.
    Organization,
    /// All callers of an API together.
    Api,
    /// All callers of a route together.
    Route,
    /// Each client address alone (IPv6 by /64).
    Address,
}

impl By {
    /// Every spelling.
    pub const ALL: [Self; 6] = [
        Self::Subscription,
        Self::Key,
        Self::Organization,
        Self::Api,
        Self::Route,
        Self::Address,
    ];

    /// As it stands in the catalog and in limit names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subscription => "subscription",
            Self::Key => "key",
            Self::Organization => "organization",
            Self::Api => "api",
            Self::Route => "route",
            Self::Address => "address",
        }
    }

    /// Reads the catalog's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == text)
    }
}

/// At most `max` units in any span of `per`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Its name, when it is declared under `[[limit]]`.
    pub id: Option<LimitId>,
    /// Units; 0 refuses everything. At most [`RateLimit::MAX_LARGEST`].
    pub max: u32,
    /// The window.
    pub per: Per,
    /// Whose counter. `None`: the subscription (the address for callers without a key).
    pub by: Option<By>,
    /// Counted and reported, never refused.
    pub shadow: bool,
}

impl RateLimit {
    /// The largest `max` that is accepted, so that slots fit 32 bits with room to spare.
    pub const MAX_LARGEST: u32 = 4_000_000_000;
}

/// A limit where it is used: by name, or written out in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitUse {
    /// The name of a declared limit.
    Named(LimitId),
    /// Written out.
    Inline(RateLimit),
}

/// What happens beyond a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExceeded {
    /// Refuse at `units`.
    Block,
    /// Never refuse; the reader is warned.
    Warn,
    /// Refuse at floor(units × (100 + percent) / 100).
    Grace {
        /// 1 to 1 000.
        percent: u32,
    },
    /// Never refuse; what is beyond is billed.
    Overage,
}

/// An allowance of units for a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The allowance in units, at most 2^53.
    pub units: u64,
    /// How long the period is.
    pub every: Every,
    /// What happens beyond.
    pub on_exceeded: OnExceeded,
}

impl Quota {
    /// The largest allowance: every JSON reader can hold it exactly.
    pub const UNITS_LARGEST: u64 = 1 << 53;

    /// Used units at which calls are refused, or `None` where the quota never refuses
    /// (docs/rules.md, 3).
    #[must_use]
    pub fn refuse_at(&self) -> Option<u64> {
        match self.on_exceeded {
            OnExceeded::Block => Some(self.units),
            OnExceeded::Warn | OnExceeded::Overage => None,
            OnExceeded::Grace { percent } => {
                let scaled = u128::from(self.units) * (100 + u128::from(percent)) / 100;
                Some(u64::try_from(scaled).unwrap_or(u64::MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_refuses_at_the_floor_of_the_raised_allowance() {
        let quota = |units, on_exceeded| {
            Quota {
                units,
                every: Every::Month,
                on_exceeded,
            }
            .refuse_at()
        };
        assert_eq!(quota(1_000, OnExceeded::Block), Some(1_000));
        assert_eq!(quota(15, OnExceeded::Grace { percent: 10 }), Some(16));
        assert_eq!(quota(9, OnExceeded::Grace { percent: 10 }), Some(9));
        assert_eq!(quota(9, OnExceeded::Warn), None);
        assert_eq!(quota(9, OnExceeded::Overage), None);
    }
}
