//! The identity of counters.
//!
//! A counter is named by scope, the scope's id, window or period start, and, for a limit that
//! stands on a route, that API and route; never by plan, limit id, max, key id or catalog number,
//! so that no edit resets it (docs/rules.md, 2). The scope is hashed once, when the catalog
//! changes; a request only sets the period's start.
//!
//! Also what of a counter is written down, so that a restart never forgets a unit: [`Mark`] before
//! units may be spent, [`Charge`] with each event, [`ShardSnapshot`] now and then.

use xxhash_rust::xxh3::xxh3_128;

use crate::{By, Per, Sequence, Ticks, Timestamp};

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CounterKind {
    /// A sliding window.
    Window(Per),
    /// A quota's period.
    Quota {
        /// The period's end: from then on the counter may be forgotten.
        ends_at: Timestamp,
    },
}

/// A counter's name before hashing.
#[derive(Debug, Clone, Copy)]
pub struct CounterScope<'a> {
    /// Whose it is.
    pub by: By,
    /// Their id: subscription, key family, organization, API, route or address.
    pub id: &'a str,
    /// API and route template, where the limit stands on a route.
    pub route: Option<(&'a str, &'a str)>,
}

/// A counter's name, the same in every process and version.
///
/// ```text
/// bit   0                                73 74                              126 127
///       | xxh3 of the scope              | window, or start of the period   | quota |
/// ```
/// The counters of one scope differ in the upper bits only, so that whoever keeps counters can
/// keep those of one caller together. The lower bits alone tell scopes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CounterId(pub u128);

const QUOTA: u64 = 1 << 53;
/// Makes every second that a [`Timestamp`] can express positive; they need 45 bits.
const SECONDS_BIAS: i64 = 1 << 46;

impl CounterId {
    /// Bits of an id that name its scope: two of ten million scopes share them once in 10^8
    /// installations.
    pub const SCOPE_BITS: u32 = 74;

    /// The counter of a sliding window.
    #[must_use]
    pub fn window(scope: CounterScope<'_>, per: Per) -> Self {
        Self::window_of(hash_scope(scope), per)
    }

    /// The counter of a sliding window in a scope ([`Self::scope`]).
    #[inline]
    #[must_use]
    pub fn window_of(scope: u128, per: Per) -> Self {
        Self::of_parts(scope, per as u64)
    }

    /// What all periods of a quota have in common; [`Self::in_period`] makes it a counter.
    #[must_use]
    pub fn quota(scope: CounterScope<'_>) -> Self {
        Self::of_parts(hash_scope(scope), QUOTA)
    }

    /// The counter of one period of a quota. Periods begin on whole seconds.
    #[inline]
    #[must_use]
    pub fn in_period(self, start: Timestamp) -> Self {
        let second = start.0.div_euclid(1_000_000).saturating_add(SECONDS_BIAS);
        Self::of_parts(self.scope(), QUOTA | second.unsigned_abs())
    }

    /// What the counters of one scope have in common.
    #[inline]
    #[must_use]
    pub fn scope(self) -> u128 {
        self.0 & ((1 << Self::SCOPE_BITS) - 1)
    }

    /// What tells the counters of one scope apart.
    #[inline]
    #[must_use]
    pub fn within_scope(self) -> u64 {
        (self.0 >> Self::SCOPE_BITS) as u64
    }

    /// The counter of these two parts.
    #[inline]
    #[must_use]
    pub fn of_parts(scope: u128, within_scope: u64) -> Self {
        Self(scope | u128::from(within_scope) << Self::SCOPE_BITS)
    }
}

/// A counter may be spent up to its mark; raising it is written down before anything is spent
/// beyond the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Which counter.
    pub counter: CounterId,
    /// What it counts.
    pub kind: CounterKind,
    /// When the counter was made in memory. A counter that was forgotten for being idle and is
    /// made again counts from 0 anew; this tells the two lives apart.
    pub began: Ticks,
    /// Units that may have been taken at admission since the counter began; what requests give
    /// back is not taken off.
    pub granted: u64,
    /// When the mark was raised.
    pub at: Ticks,
}

/// What one request was charged on one counter; stands beside its event in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Which counter.
    pub counter: CounterId,
    /// What it counts.
    pub kind: CounterKind,
    /// Units taken at admission.
    pub reserved: u64,
    /// Units kept at the end.
    pub kept: u64,
    /// The moment of admission.
    pub at: Ticks,
    /// How many snapshots of the counter's shard had been taken at admission: tells whether a
    /// snapshot already holds the reserved units.
    pub round: u64,
}

/// One counter at the moment of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterState {
    /// Which counter.
    pub counter: CounterId,
    /// What it counts.
    pub kind: CounterKind,
    /// When the counter was made in memory (see [`Mark::began`]).
    pub began: Ticks,
    /// Units that ended requests kept: the sum over their records, over restarts too.
    pub settled: u64,
    /// Units that count as spent though no record of this counter's period tells of them: a gateway
    /// died before it was known what became of them, their loss was declared, or their period was
    /// changed.
    pub held: u64,
    /// `settled`, `held` and the units of requests still in flight: what a quota has used.
    pub spent: u64,
    /// Units taken at admission since the counter began; what was given back is not taken off, so
    /// that `granted - reserved` is what may be in flight unknown to the reader.
    pub reserved: u64,
    /// The mark.
    pub granted: u64,
    /// Live slots of a window: slot number since the epoch and units, in flight ones too.
    pub slots: Vec<(u64, u32)>,
}

/// All counters of one shard, copied under its lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSnapshot {
    /// Which shard.
    pub shard: u16,
    /// Which snapshot of the shard it is, from 1.
    pub round: u64,
    /// When.
    pub at: Ticks,
    /// For each journal thread, the first sequence whose charges are not in the snapshot.
    pub positions: Vec<Sequence>,
    /// When counters were lost that a start inside their span must still take for full; 0 for
    /// never.
    pub lost_at: Ticks,
    /// Quotas whose periods ended until then may have been forgotten: one that is not among the
    /// counters is not known to be unused. `i64::MIN` while none was.
    pub closed_before: Timestamp,
    /// The counters.
    pub counters: Vec<CounterState>,
}

fn hash_scope(scope: CounterScope<'_>) -> u128 {
    let (api, route) = scope.route.unwrap_or(("", ""));
    let parts = [scope.by.as_str(), scope.id, api, route];
    let mut name = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    // A length before every part keeps ("ab", "c") apart from ("a", "bc").
    for part in parts {
        name.extend_from_slice(&(part.len() as u64).to_le_bytes());
        name.extend_from_slice(part.as_bytes());
    }
    xxh3_128(&name) & ((1 << CounterId::SCOPE_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_differ_by_every_part_of_their_name() {
        let scope = CounterScope {
            by: By::Subscription,
            id: "acme",
            route: None,
        };
        let ids = [
            CounterId::window(scope, Per::Minute),
            CounterId::window(scope, Per::Hour),
            CounterId::window(
                CounterScope {
                    by: By::Key,
                    ..scope
                },
                Per::Minute,
            ),
            CounterId::window(CounterScope { id: "acm", ..scope }, Per::Minute),
            CounterId::window(
                CounterScope {
                    route: Some(("a", "/b")),
                    ..scope
                },
                Per::Minute,
            ),
            CounterId::window(
                CounterScope {
                    route: Some(("a/", "b")),
                    ..scope
                },
                Per::Minute,
            ),
            CounterId::quota(scope),
            CounterId::quota(scope).in_period(Timestamp(0)),
            CounterId::quota(scope).in_period(Timestamp(1_000_000)),
            CounterId::quota(scope).in_period(Timestamp(-1)),
            CounterId::quota(scope).in_period(Timestamp(i64::MIN)),
            CounterId::quota(scope).in_period(Timestamp(i64::MAX)),
        ];
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn the_counters_of_one_scope_share_its_bits_and_other_scopes_do_not() {
        let scope = |id| CounterScope {
            by: By::Subscription,
            id,
            route: None,
        };
        let of = |id| {
            let quota = CounterId::quota(scope(id)).in_period(Timestamp(1));
            let windows = Per::ALL.map(|per| CounterId::window(scope(id), per).scope());
            assert_eq!(windows, [quota.scope(); 4]);
            assert_eq!(
                CounterId::of_parts(quota.scope(), quota.within_scope()),
                quota
            );
            quota.scope()
        };
        assert_ne!(of("acme"), of("acm"));
    }

    #[test]
    fn the_hash_never_changes_between_versions() {
        let scope = CounterScope {
            by: By::Subscription,
            id: "acme",
            route: None,
        };
        let id = CounterId::window(scope, Per::Minute);
        assert_eq!(
            id.0, PINNED,
            "a changed hash forgets every counter at upgrade: {:#x}",
            id.0
        );
    }

    const PINNED: u128 = 0x0000_0000_0000_078a_a7f2_eff8_7b35_a97c;
}
