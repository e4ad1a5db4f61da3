//! One limit or quota as it bears on one request.

use smallvec::SmallVec;
use tollgate_model::{CounterId, CounterKind, Every, Per, Period};

use crate::name::{Length, LimitName};

/// What is done about limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// They refuse.
    Enforce,
    /// Nothing is refused and no window charged; quotas are charged, and `would_deny` tells which
    /// limit would have refused. What windows would have counted is kept in counters beside
    /// theirs, so that the answer is the one that enforcing would have given.
    Observe,
    /// An emergency override: as [`Self::Observe`], and nothing is told.
    Off,
}

/// What a limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// At most so many units in a sliding window. At least one of the two is set.
    Window {
        /// The window.
        per: Per,
        /// Refuses beyond this; the lowest of all limits on the counter.
        max: Option<u32>,
        /// Only reports beyond this; the lowest of all shadow limits on the counter.
        shadow_max: Option<u32>,
    },
    /// An allowance for a period.
    Quota {
        /// How long the period is.
        every: Every,
        /// The allowance; `None`: unlimited, counted all the same.
        units: Option<u64>,
        /// Used units at which calls are refused; `None`: never.
        refuse_at: Option<u64>,
        /// The period in which the request was admitted.
        period: Period,
    },
}

/// A limit or quota that a request must pass, with the counter that it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applicable {
    /// The counter.
    pub counter: CounterId,
    /// Its name; within one request it names one counter.
    pub name: LimitName,
    /// What it allows.
    pub rule: Rule,
}

/// All limits and quotas of a request: windows shortest first, then quotas.
pub type Limits = SmallVec<[Applicable; 6]>;

impl Applicable {
    /// What the counter counts.
    #[inline]
    #[must_use]
    pub fn kind(&self) -> CounterKind {
        match self.rule {
            Rule::Window { per, .. } => CounterKind::Window(per),
            Rule::Quota { period, .. } => CounterKind::Quota {
                ends_at: period.end,
            },
        }
    }

    /// Whether it is an allowance for a period.
    #[inline]
    #[must_use]
    pub fn is_quota(&self) -> bool {
        matches!(self.name.length, Length::Period(_))
    }

    /// Whether it only reports.
    #[inline]
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        matches!(self.rule, Rule::Window { max: None, .. })
    }

    /// The number that people see as the limit; `None`: unlimited.
    #[inline]
    #[must_use]
    pub fn allowance(&self) -> Option<u64> {
        match self.rule {
            Rule::Window {
                max, shadow_max, ..
            } => max.or(shadow_max).map(u64::from),
            Rule::Quota { units, .. } => units,
        }
    }

    /// The number at which it refuses (or, a shadow, would); `None`: never.
    #[inline]
    #[must_use]
    pub fn ceiling(&self) -> Option<u64> {
        match self.rule {
            Rule::Window { .. } => self.allowance(),
            Rule::Quota { refuse_at, .. } => refuse_at,
        }
    }

    /// Whether it refuses `cost` more units on top of `counted`.
    #[inline]
    #[must_use]
    pub fn refuses(&self, counted: u64, cost: u64) -> bool {
        match self.rule {
            Rule::Window { max, .. } => max.is_some_and(|max| exceeds(counted, cost, max.into())),
            Rule::Quota { refuse_at, .. } => refuse_at.is_some_and(|at| exceeds(counted, cost, at)),
        }
    }

    /// Whether a shadow limit on the counter would refuse.
    #[inline]
    #[must_use]
    pub fn shadow_refuses(&self, counted: u64, cost: u64) -> bool {
        match self.rule {
            Rule::Window { shadow_max, .. } => {
                shadow_max.is_some_and(|max| exceeds(counted, cost, max.into()))
            }
            Rule::Quota { .. } => false,
        }
    }

    /// Whether `cost` more units fit, shadows included. Where they fit every limit of a request,
    /// [`crate::decide()`] admits it and has nothing to tell.
    #[inline]
    #[must_use]
    pub fn fits(&self, counted: u64, cost: u64) -> bool {
        !self.refuses(counted, cost) && !self.shadow_refuses(counted, cost)
    }

    /// The same limit on the counter that is charged under this enforcement.
    #[must_use]
    pub fn under(mut self, enforcement: Enforcement) -> Self {
        // Any constant does: the ids are hashes, and flipping the same bits twice is the only way
        // back.
        const OBSERVED: u128 = 0x6f62_7365_7276_6564_0000_0000_0000_0000;
        if enforcement == Enforcement::Observe && !self.is_quota() {
            self.counter = CounterId(self.counter.0 ^ OBSERVED);
        }
        self
    }
}

/// A maximum of 0 refuses everything, calls that cost nothing too.
fn exceeds(counted: u64, cost: u64, max: u64) -> bool {
    max == 0 || counted.saturating_add(cost) > max
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_model::{By, Timestamp};

    fn limit(length: Length, rule: Rule) -> Applicable {
        Applicable {
            counter: CounterId(0x0f0f),
            name: LimitName {
                length,
                by: By::Subscription,
                on_route: false,
            },
            rule,
        }
    }

    fn window(max: Option<u32>, shadow_max: Option<u32>) -> Applicable {
        limit(
            Length::Window(Per::Minute),
            Rule::Window {
                per: Per::Minute,
                max,
                shadow_max,
            },
        )
    }

    fn quota(units: Option<u64>, refuse_at: Option<u64>) -> Applicable {
        limit(
            Length::Period(Every::Month),
            Rule::Quota {
                every: Every::Month,
                units,
                refuse_at,
                period: Period {
                    start: Timestamp(0),
                    end: Timestamp(77),
                },
            },
        )
    }

    #[test]
    fn what_fits_is_what_neither_the_limit_nor_its_shadow_refuses() {
        // (limit, refuses a unit from, its shadow from)
        let table = [
            (window(Some(5), None), Some(5), None),
            (window(Some(5), Some(3)), Some(5), Some(3)),
            (window(None, Some(3)), None, Some(3)),
            (window(Some(3), Some(5)), Some(3), Some(5)),
            (quota(Some(4), Some(6)), Some(6), None),
            (quota(Some(4), None), None, None),
        ];
        for (limit, refuses_from, shadow_from) in table {
            for counted in 0..9 {
                let from = |from: Option<u64>| from.is_some_and(|from| counted >= from);
                let (refused, shadowed) = (from(refuses_from), from(shadow_from));
                assert_eq!(limit.refuses(counted, 1), refused, "{limit:?} {counted}");
                assert_eq!(limit.shadow_refuses(counted, 1), shadowed, "{limit:?}");
                assert_eq!(limit.fits(counted, 1), !refused && !shadowed, "{limit:?}");
                // What costs nothing fits as long as nothing is exceeded.
                let exceeded = [refuses_from, shadow_from]
                    .into_iter()
                    .flatten()
                    .any(|at| counted > at);
                assert_eq!(limit.fits(counted, 0), !exceeded, "{limit:?} {counted}");
            }
        }
        assert!(!window(Some(0), None).fits(0, 0));
    }

    #[test]
    fn the_ceiling_is_where_it_refuses_and_the_allowance_what_people_see() {
        let told = |limit: Applicable| (limit.allowance(), limit.ceiling(), limit.is_shadow());
        assert_eq!(told(window(Some(5), None)), (Some(5), Some(5), false));
        assert_eq!(told(window(Some(5), Some(3))), (Some(5), Some(5), false));
        assert_eq!(told(window(None, Some(3))), (Some(3), Some(3), true));
        assert_eq!(told(quota(Some(4), Some(6))), (Some(4), Some(6), false));
        assert_eq!(told(quota(Some(4), None)), (Some(4), None, false));
        assert_eq!(told(quota(None, None)), (None, None, false));
    }

    #[test]
    fn counters_know_what_they_count() {
        assert_eq!(
            window(Some(5), None).kind(),
            CounterKind::Window(Per::Minute)
        );
        let ends_at = Timestamp(77);
        assert_eq!(quota(None, None).kind(), CounterKind::Quota { ends_at });
    }

    #[test]
    fn only_observed_windows_are_counted_beside_and_the_way_back_is_the_same() {
        let (minute, month) = (window(Some(5), None), quota(Some(4), Some(4)));
        for enforcement in [Enforcement::Enforce, Enforcement::Off] {
            assert_eq!(minute.under(enforcement), minute);
            assert_eq!(month.under(enforcement), month);
        }
        let observed = minute.under(Enforcement::Observe);
        assert_ne!(observed.counter, minute.counter);
        assert_eq!((observed.name, observed.rule), (minute.name, minute.rule));
        assert_eq!(observed.under(Enforcement::Observe), minute);
        assert_eq!(month.under(Enforcement::Observe), month);
        // Two counters never become one.
        let mut other = minute;
        other.counter = CounterId(0x6f62_7365_7276_6564_0000_0000_0000_0f0f);
        let other = other.under(Enforcement::Observe);
        assert_ne!(other.counter, observed.counter);
    }
}
