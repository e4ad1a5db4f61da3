//! All or nothing: whether every limit of a request admits it, and what a refusal says.

use smallvec::SmallVec;
use tollgate_model::{By, DenialCode, LimitReading, Now, Period, Quota, Ticks, Timestamp};

use crate::applicable::{Applicable, Enforcement, Rule};
use crate::name::LimitName;
use crate::window::Window;

/// Where one counter stands, as far as one limit asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Units counted.
    pub counted: u64,
    /// When what is left next grows; windows only, `None` where it cannot.
    pub grows_at: Option<Ticks>,
    /// When the cost asked about fits; windows only, `None`: never.
    pub opens_at: Option<Ticks>,
}

/// One reading for each limit, in the same order.
pub type Readings = SmallVec<[Reading; 6]>;

/// Why a request is refused, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// `rate_limited` or `quota_exceeded`.
    pub code: DenialCode,
    /// The limit that opens last.
    pub name: LimitName,
    /// Its maximum or allowance.
    pub limit: u64,
    /// Units counted on it.
    pub used: u64,
    /// Units left on it; may be more than 0 where the request costs more than that.
    pub remaining: u64,
    /// Whose counter it is.
    pub scope: By,
    /// The period, where the limit is a quota; a window's length is in the name.
    pub period: Option<Period>,
    /// Whole seconds, rounded up, at least 1, until every limit admits this cost; `None`: never.
    pub retry_after_s: Option<u64>,
    /// That instant.
    pub reset_at: Option<Timestamp>,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request may pass.
    Admit {
        /// The limit that would have refused, were it not a shadow or only observed.
        would_deny: Option<LimitName>,
        /// Whether windows are charged; quotas always are.
        charge_windows: bool,
    },
    /// It may not; nothing is charged.
    Deny(Refusal),
}

impl Reading {
    /// Reads a window for a limit and a cost.
    #[inline]
    #[must_use]
    pub fn of_window(window: &Window, limit: &Applicable, cost: u64) -> Self {
        let counted = window.counted();
        let max = limit.allowance().unwrap_or(u64::MAX);
        let asked = match limit.rule {
            Rule::Window {
                shadow_max: Some(shadow),
                ..
            } if !limit.refuses(counted, cost) && limit.shadow_refuses(counted, cost) => {
                u64::from(shadow)
            }
            _ => max,
        };
        Self {
            counted,
            grows_at: window.grows_at(max),
            opens_at: window.opens_at(asked, cost),
        }
    }

    /// Reads a quota.
    #[inline]
    #[must_use]
    pub fn of_quota(used: u64) -> Self {
        Self {
            counted: used,
            grows_at: None,
            opens_at: None,
        }
    }
}

/// Decides. `readings` stand in the order of `limits`; the counters must not change between
/// reading them and charging.
#[must_use]
pub fn decide(
    limits: &[Applicable],
    readings: &[Reading],
    cost: u64,
    now: Now,
    enforcement: Enforcement,
) -> Verdict {
    let all = || limits.iter().zip(readings);
    let refusing = || all().filter(|(limit, reading)| limit.refuses(reading.counted, cost));
    let shadow = || {
        all()
            .filter(|(limit, reading)| limit.shadow_refuses(reading.counted, cost))
            .max_by_key(|(limit, reading)| wait_us(limit, reading, cost, now))
            .map(|(limit, _)| limit.name)
    };
    let last = refusing().max_by_key(|(limit, reading)| wait_us(limit, reading, cost, now));
    match (enforcement, last) {
        (Enforcement::Enforce, Some((limit, reading))) => {
            Verdict::Deny(refusal(limit, reading, cost, now))
        }
        (Enforcement::Enforce, None) => Verdict::Admit {
            would_deny: shadow(),
            charge_windows: true,
        },
        (Enforcement::Observe, last) => Verdict::Admit {
            would_deny: last.map_or_else(shadow, |(limit, _)| Some(limit.name)),
            charge_windows: last.is_none(),
        },
        (Enforcement::Off, _) => Verdict::Admit {
            would_deny: None,
            charge_windows: false,
        },
    }
}

/// The refusal in the name of the limit that opens last, whose wait therefore is everyone's.
fn refusal(limit: &Applicable, reading: &Reading, cost: u64, now: Now) -> Refusal {
    let wait = wait_us(limit, reading, cost, now);
    let opens = (wait != NEVER).then_some(wait);
    let opens_at = match limit.rule {
        Rule::Window { .. } => reading.opens_at.map(|ticks| wall_of(ticks, now)),
        Rule::Quota { period, .. } => Some(period.end),
    };
    let allowance = limit.allowance().unwrap_or(Quota::UNITS_LARGEST);
    Refusal {
        code: if limit.is_quota() {
            DenialCode::QuotaExceeded
        } else {
            DenialCode::RateLimited
        },
        name: limit.name,
        limit: allowance,
        used: reading.counted,
        remaining: allowance.saturating_sub(reading.counted),
        scope: limit.name.by,
        period: match limit.rule {
            Rule::Quota { period, .. } => Some(period),
            Rule::Window { .. } => None,
        },
        retry_after_s: opens.map(|us| us.div_ceil(1_000_000).max(1)),
        reset_at: opens_at.filter(|_| opens.is_some()),
    }
}

/// Longer than any wait.
const NEVER: u64 = u64::MAX;

/// Microseconds until the limit admits the cost.
fn wait_us(limit: &Applicable, reading: &Reading, cost: u64, now: Now) -> u64 {
    match limit.rule {
        Rule::Window { .. } => reading
            .opens_at
            .map_or(NEVER, |opens| opens.since(now.ticks)),
        Rule::Quota {
            refuse_at, period, ..
        } => {
            if refuse_at.is_some_and(|at| at == 0 || cost > at) {
                return NEVER;
            }
            u64::try_from(period.end.since(now.wall)).unwrap_or(0)
        }
    }
}

/// When what is left next grows; `None` where it cannot.
pub(crate) fn grows_at(limit: &Applicable, reading: &Reading, now: Now) -> Option<Timestamp> {
    match limit.rule {
        Rule::Quota { period, .. } => Some(period.end),
        Rule::Window { .. } => reading.grows_at.map(|ticks| wall_of(ticks, now)),
    }
}

/// How finely the difference of the two clocks is told, in microseconds: coarser than the time
/// between reading one and reading the other, so that a slot's end is the same instant however
/// often it is asked for.
const CLOCKS_STEP_US: i64 = 10_000;

/// The instant of a tick to come. Both clocks start aligned and differ by what the wall clock was
/// set since.
fn wall_of(ticks: Ticks, now: Now) -> Timestamp {
    let signed = |ticks: Ticks| i64::try_from(ticks.0).unwrap_or(i64::MAX);
    let apart_us = now.wall.0.saturating_sub(signed(now.ticks));
    let steps = apart_us.saturating_add(CLOCKS_STEP_US / 2);
    let told_us = steps.div_euclid(CLOCKS_STEP_US) * CLOCKS_STEP_US;
    Timestamp(signed(ticks.max(now.ticks))).plus_us(told_us)
}

/// Where every limit stands, quotas first: what `me`, `check` and `verify` tell.
#[must_use]
pub fn describe(limits: &[Applicable], readings: &[Reading], now: Now) -> Vec<LimitReading> {
    let mut out: Vec<(bool, LimitReading)> = limits
        .iter()
        .zip(readings)
        .map(|(limit, reading)| {
            let allowance = limit.allowance();
            let told = LimitReading {
                name: limit.name.as_str().into(),
                limit: allowance,
                used: reading.counted,
                remaining: allowance.map(|max| max.saturating_sub(reading.counted)),
                resets_at: grows_at(limit, reading, now),
                period: match limit.rule {
                    Rule::Quota { period, .. } => Some(period),
                    Rule::Window { .. } => None,
                },
                shadow: limit.is_shadow(),
            };
            (!limit.is_quota(), told)
        })
        .collect();
    out.sort_by_key(|(is_window, _)| *is_window);
    out.into_iter().map(|(_, told)| told).collect()
}

#[cfg(test)]
mod tests;
