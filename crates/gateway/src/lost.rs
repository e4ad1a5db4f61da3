//! Counters of which not everything is known: lost with an earlier life, or begun in mid-period by
//! a change of the catalog. Until the platform has told, or a window's span has passed, the API's
//! `on_counters_lost` decides.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tollgate_admission::{Applicable, Cost, Rule};
use tollgate_model::{CounterId, Now, Ticks};

/// What was lost with the counters of an earlier life.
#[derive(Debug)]
struct Lost {
    at: Ticks,
    /// The platform has told what quotas had used.
    quotas_known: AtomicBool,
    /// Units passed on trust since.
    open_units: AtomicU64,
}

/// Counters of which not everything is known.
#[derive(Debug)]
pub(crate) struct LostCounters {
    lost: Option<Lost>,
    /// Quotas that wait for what the platform knows, because their periods were changed.
    unknown: Mutex<HashSet<CounterId>>,
    some_unknown: AtomicBool,
}

impl LostCounters {
    /// `lost_at`: when the counters of an earlier life were lost, if they were.
    pub(crate) fn new(lost_at: Option<Ticks>) -> Self {
        Self {
            lost: lost_at.map(|at| Lost {
                at,
                quotas_known: AtomicBool::new(false),
                open_units: AtomicU64::new(0),
            }),
            unknown: Mutex::default(),
            some_unknown: AtomicBool::new(false),
        }
    }

    /// Whether the counter of some limit that may refuse is one of those that were lost and not yet
    /// made good.
    pub(crate) fn holds_back(&self, limits: &[Applicable], now: Now) -> bool {
        if self.some_unknown.load(Ordering::Acquire) {
            let unknown = self.unknown.lock();
            let waits = |l: &Applicable| {
                matches!(l.rule, Rule::Quota { refuse_at, .. } if refuse_at.is_some())
                    && unknown.contains(&l.counter)
            };
            if limits.iter().any(waits) {
                return true;
            }
        }
        let Some(lost) = &self.lost else {
            return false;
        };
        let mut holding = limits.iter().filter(|limit| !limit.is_shadow());
        holding.any(|limit| match limit.rule {
            // A sixtieth longer than the span, as windows count.
            Rule::Window { per, .. } => {
                now.ticks.since(lost.at) <= per.span_us() + per.span_us() / 60
            }
            Rule::Quota { refuse_at, .. } => {
                refuse_at.is_some() && !lost.quotas_known.load(Ordering::Acquire)
            }
        })
    }

    /// These quotas wait for what the platform knows, or no longer do.
    pub(crate) fn set_unknown(&self, counters: &[CounterId], wait: bool) {
        let mut unknown = self.unknown.lock();
        for counter in counters {
            if wait {
                unknown.insert(*counter);
            } else {
                unknown.remove(counter);
            }
        }
        let some = !unknown.is_empty();
        self.some_unknown.store(some, Ordering::Release);
    }

    /// Passes a call on trust, while no more than `units_max` are in all.
    pub(crate) fn spend_open(&self, units_max: u64, cost: Cost) -> bool {
        let Some(lost) = &self.lost else {
            return false;
        };
        let cost = cost.reserved();
        lost.open_units
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |spent| {
                spent.checked_add(cost).filter(|sum| *sum <= units_max)
            })
            .is_ok()
    }

    /// When the counters of an earlier life were lost, if they were.
    pub(crate) fn lost_at(&self) -> Option<Ticks> {
        self.lost.as_ref().map(|lost| lost.at)
    }

    /// Whether quotas wait for what the platform knows.
    pub(crate) fn awaits_quotas(&self) -> bool {
        self.lost
            .as_ref()
            .is_some_and(|lost| !lost.quotas_known.load(Ordering::Acquire))
    }

    /// The platform has told what quotas had used.
    pub(crate) fn quotas_are_known(&self) {
        if let Some(lost) = &self.lost {
            lost.quotas_known.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use tollgate_admission::{Length, LimitName};
    use tollgate_model::{By, Per, Timestamp};

    use super::*;

    #[test]
    fn a_lost_window_holds_calls_back_for_its_span_and_one_that_only_reports_never() {
        let lost = LostCounters::new(Some(Ticks(1_000_000)));
        let window = |max| Applicable {
            counter: CounterId(1),
            name: LimitName {
                length: Length::Window(Per::Minute),
                by: By::Key,
                on_route: false,
            },
            rule: Rule::Window {
                per: Per::Minute,
                max,
                shadow_max: Some(5),
            },
        };
        let after = |us: u64| Now {
            wall: Timestamp(0),
            ticks: Ticks(1_000_000 + us),
        };
        assert!(lost.holds_back(&[window(Some(5))], after(61_000_000)));
        assert!(!lost.holds_back(&[window(Some(5))], after(61_000_001)));
        assert!(!lost.holds_back(&[window(None)], after(1)));
    }
}
