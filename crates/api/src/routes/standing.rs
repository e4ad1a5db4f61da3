//! Where limits stand, as `quota/check`, `keys/verify` and `me` show it.

use serde::Serialize;
use tollgate_model::{CheckAnswer, LimitReading};
use utoipa::ToSchema;

/// Percentage of a quota from which callers are warned.
const WARN_FROM_PERCENT: f64 = 80.0;

/// Where one limit or quota stands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Standing {
    /// Such as `month-subscription`.
    pub name: String,
    /// `quota` or `window`.
    pub kind: &'static str,
    /// The allowance; `null`: unlimited.
    pub limit: Option<u64>,
    /// Units counted now.
    pub used: u64,
    /// Units left; `null`: unlimited.
    pub remaining: Option<u64>,
    /// When `remaining` next grows.
    pub reset_at: Option<String>,
    /// First instant of the quota's period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_start: Option<String>,
    /// First instant after the quota's period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period_end: Option<String>,
    /// Counted, never refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

impl Standing {
    /// Shows a reading.
    pub fn of(reading: &LimitReading) -> Self {
        Self {
            name: reading.name.to_string(),
            kind: if reading.period.is_some() {
                "quota"
            } else {
                "window"
            },
            limit: reading.limit,
            used: reading.used,
            remaining: reading.remaining,
            reset_at: reading.resets_at.map(|at| at.to_string()),
            period_start: reading.period.map(|period| period.start.to_string()),
            period_end: reading.period.map(|period| period.end.to_string()),
            shadow: reading.shadow,
        }
    }

    /// Shows every reading of an answer.
    pub fn all_of(answer: &CheckAnswer) -> Vec<Self> {
        answer.limits.iter().map(Self::of).collect()
    }
}

/// The limit that stands for all: on a refusal the one that refused, else the quota with the least
/// left, else the limit with the least left. Quotas come subscription first, so that a tie is the
/// subscription's.
pub fn headline(answer: &CheckAnswer) -> Option<&LimitReading> {
    let refusing = answer
        .limit
        .as_ref()
        .and_then(|name| answer.limits.iter().find(|reading| reading.name == *name));
    let least = |quota: bool| {
        answer
            .limits
            .iter()
            .filter(|reading| !reading.shadow && reading.period.is_some() == quota)
            .min_by_key(|reading| reading.remaining.unwrap_or(u64::MAX))
    };
    refusing.or_else(|| least(true)).or_else(|| least(false))
}

/// How much of a limit is used, in percent with two decimals; 0 where there is no limit.
pub fn percentage(reading: Option<&LimitReading>) -> f64 {
    let Some(limit) = reading.and_then(|reading| reading.limit) else {
        return 0.0;
    };
    let used = reading.map_or(0, |reading| reading.used);
    if limit == 0 {
        return 100.0;
    }
    (used as f64 * 10_000.0 / limit as f64).round() / 100.0
}

/// A sentence for every quota that is nearly or wholly used.
pub fn warnings(answer: &CheckAnswer) -> Vec<String> {
    answer
        .limits
        .iter()
        .filter(|reading| reading.period.is_some() && !reading.shadow)
        .filter_map(|reading| {
            let limit = reading.limit?;
            let percent = percentage(Some(reading));
            (percent >= WARN_FROM_PERCENT).then(|| {
                format!(
                    "{}: {} of {limit} units used ({percent} %)",
                    reading.name, reading.used
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_model::{Period, Timestamp};

    fn reading(name: &str, used: u64, limit: Option<u64>, quota: bool) -> LimitReading {
        LimitReading {
            name: name.into(),
            limit,
            used,
            remaining: limit.map(|limit| limit.saturating_sub(used)),
            resets_at: None,
            period: quota.then_some(Period {
                start: Timestamp(0),
                end: Timestamp(1),
            }),
            shadow: false,
        }
    }

    fn answer(limit: Option<&str>, limits: Vec<LimitReading>) -> CheckAnswer {
        CheckAnswer {
            allowed: limit.is_none(),
            code: None,
            limit: limit.map(Into::into),
            retry_after_s: None,
            key: None,
            subscription: None,
            organization: None,
            plan: None,
            limits,
        }
    }

    #[test]
    fn a_refusal_shows_the_limit_that_refused_and_else_the_scarcest_quota() {
        let limits = || {
            vec![
                reading("month-subscription", 10, Some(100), true),
                reading("day-key", 15, Some(100), true),
                reading("minute-subscription", 9, Some(10), false),
            ]
        };
        let shown = |limit| headline(&answer(limit, limits())).unwrap().name.to_string();
        assert_eq!(shown(Some("minute-subscription")), "minute-subscription");
        assert_eq!(shown(None), "day-key");
        let windows = answer(
            None,
            vec![reading("minute-subscription", 9, Some(10), false)],
        );
        assert_eq!(&*headline(&windows).unwrap().name, "minute-subscription");
        assert!(headline(&answer(None, vec![])).is_none());
    }

    #[test]
    fn callers_are_warned_from_four_fifths_of_a_quota() {
        let at = |used| warnings(&answer(None, vec![reading("q", used, Some(1_000), true)]));
        assert!(at(799).is_empty());
        assert_eq!(at(855), ["q: 855 of 1000 units used (85.5 %)"]);
        assert_eq!(percentage(Some(&reading("q", 0, Some(0), true))), 100.0);
        assert_eq!(percentage(Some(&reading("q", 7, None, true))), 0.0);
    }
}
