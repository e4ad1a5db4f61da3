//! The values of the rate-limit headers.
//!
//! `X-RateLimit-*` describe the quota with the least left (on a tie the subscription's), without
//! quotas the window with the least left, on a refusal the limit that refused. `RateLimit-Policy`
//! names every limit, `RateLimit` the tightest. Shadow limits and quotas that never end stay
//! unnamed: a client need not heed them.

use tollgate_model::{Now, Timestamp};

use crate::applicable::{Applicable, Rule};
use crate::decide::{Reading, Refusal, grows_at};
use crate::name::LimitName;
use crate::text::{Text, whole_seconds};

/// Largest integer of a structured field: 15 digits.
const INTEGER_LARGEST: u64 = 999_999_999_999_999;

/// What a request gives back of what its readings count, as far as its answer's head decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GivenBack {
    /// Off windows.
    pub windows: u64,
    /// Off quotas.
    pub quotas: u64,
}

/// The values of `X-RateLimit-Limit`, `-Used`, `-Remaining` and `-Reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastLeft {
    /// The maximum or allowance.
    pub limit: u64,
    /// Units counted, this request among them.
    pub used: u64,
    /// Units left.
    pub remaining: u64,
    /// The period's end, or when `remaining` next grows.
    pub reset_at: Timestamp,
}

/// The value of `RateLimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tightest {
    /// The limit.
    pub name: LimitName,
    /// Units left.
    pub remaining: u64,
    /// Whole seconds, rounded up, until `remaining` grows.
    pub grows_in_s: u64,
}

/// The values of an answer's rate-limit headers; `None` where there is no limit to describe.
/// `RateLimit-Policy` is fixed for a caller and route: see `CompiledLimits::policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderValues {
    /// `X-RateLimit-*`.
    pub least_left: Option<LeastLeft>,
    /// `RateLimit`.
    pub tightest: Option<Tightest>,
}

/// One limit with its numbers after this request.
#[derive(Clone, Copy)]
struct Line<'a> {
    limit: &'a Applicable,
    allowance: u64,
    used: u64,
    reset_at: Timestamp,
}

impl Line<'_> {
    fn remaining(&self) -> u64 {
        self.allowance.saturating_sub(self.used)
    }
}

impl HeaderValues {
    /// Readings are those after the request was charged, or, where it was refused, those that
    /// refused it.
    #[must_use]
    pub fn new(
        limits: &[Applicable],
        readings: &[Reading],
        refusal: Option<&Refusal>,
        given_back: GivenBack,
        now: Now,
    ) -> Self {
        let lines = || {
            limits
                .iter()
                .zip(readings)
                .filter_map(|(limit, reading)| line(limit, reading, given_back, now))
        };
        let refused =
            refusal.and_then(|refusal| lines().find(|line| line.limit.name == refusal.name));
        // Of equals the first counts: limits list the subscription's quota before the key's.
        let least_quota = || {
            lines()
                .filter(|line| line.limit.is_quota())
                .min_by_key(Line::remaining)
        };
        // Of equals the one that grows last counts: it is the one to heed.
        let least_of_all =
            || lines().min_by_key(|line| (line.remaining(), std::cmp::Reverse(line.reset_at)));
        let told = refused.or_else(least_quota).or_else(least_of_all);
        let tightest = refused.or_else(least_of_all);
        Self {
            least_left: told.map(|line| LeastLeft {
                limit: line.allowance,
                used: line.used,
                remaining: line.remaining(),
                reset_at: line.reset_at,
            }),
            tightest: tightest.map(|line| Tightest {
                name: line.limit.name,
                remaining: line.remaining(),
                grows_in_s: u64::try_from(line.reset_at.since(now.wall))
                    .unwrap_or(0)
                    .div_ceil(1_000_000),
            }),
        }
    }
}

fn line<'a>(
    limit: &'a Applicable,
    reading: &Reading,
    given_back: GivenBack,
    now: Now,
) -> Option<Line<'a>> {
    if limit.is_shadow() {
        return None;
    }
    let back = if limit.is_quota() {
        given_back.quotas
    } else {
        given_back.windows
    };
    Some(Line {
        limit,
        allowance: limit.allowance()?,
        used: reading.counted.saturating_sub(back),
        reset_at: grows_at(limit, reading, now).unwrap_or(now.wall),
    })
}

impl LeastLeft {
    /// `X-RateLimit-Reset`: whole seconds, `Z`.
    #[must_use]
    pub fn reset_text(&self) -> Text {
        whole_seconds(self.reset_at)
    }
}

impl Tightest {
    /// `"minute-subscription";r=7;t=42`
    #[must_use]
    pub fn text(&self) -> Text {
        let mut text = Text::default();
        push_name(&mut text, self.name);
        text.push_str(";r=");
        text.push_number(self.remaining.min(INTEGER_LARGEST));
        text.push_str(";t=");
        text.push_number(self.grows_in_s.min(INTEGER_LARGEST));
        text
    }
}

/// `RateLimit-Policy`: `"minute-subscription";q=10;w=60, "month-subscription";q=1000`; `None`
/// where there is no limit to name.
#[must_use]
pub fn policy_text(limits: &[Applicable]) -> Option<Text> {
    let mut text = Text::default();
    for limit in limits.iter().filter(|limit| !limit.is_shadow()) {
        let Some(allowance) = limit.allowance() else {
            continue;
        };
        if !text.as_bytes().is_empty() {
            text.push_str(", ");
        }
        push_name(&mut text, limit.name);
        text.push_str(";q=");
        text.push_number(allowance.min(INTEGER_LARGEST));
        if let Rule::Window { per, .. } = limit.rule {
            text.push_str(";w=");
            text.push_number(per.span_us() / 1_000_000);
        }
    }
    (!text.as_bytes().is_empty()).then_some(text)
}

fn push_name(text: &mut Text, name: LimitName) {
    text.push_str("\"");
    text.push_str(name.as_str());
    text.push_str("\"");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Length;
    use tollgate_model::{By, CounterId, Every, Per, Period, Ticks};

    const NOW: Now = Now {
        wall: Timestamp(1_764_000_000_000_000),
        ticks: Ticks(1_764_000_000_000_000),
    };

    fn window(per: Per, max: u32) -> Applicable {
        Applicable {
            counter: CounterId(u128::from(per.span_us())),
            name: LimitName {
                length: Length::Window(per),
                by: By::Subscription,
                on_route: false,
            },
            rule: Rule::Window {
                per,
                max: Some(max),
                shadow_max: None,
            },
        }
    }

    fn quota(by: By, units: Option<u64>) -> Applicable {
        Applicable {
            counter: CounterId(by as u128),
            name: LimitName {
                length: Length::Period(Every::Month),
                by,
                on_route: false,
            },
            rule: Rule::Quota {
                every: Every::Month,
                units,
                refuse_at: units,
                period: Period {
                    start: Timestamp(0),
                    end: NOW.wall.plus_us(90_500_000),
                },
            },
        }
    }

    fn counted(counted: u64, grows_in_us: u64) -> Reading {
        Reading {
            counted,
            grows_at: Some(NOW.ticks.plus_us(grows_in_us)),
            opens_at: None,
        }
    }

    fn values(limits: &[Applicable], readings: &[Reading]) -> HeaderValues {
        HeaderValues::new(limits, readings, None, GivenBack::default(), NOW)
    }

    #[test]
    fn the_quota_with_the_least_left_is_described_and_on_a_tie_the_subscriptions() {
        let limits = [
            window(Per::Minute, 10),
            quota(By::Subscription, Some(1_000)),
            quota(By::Key, Some(100)),
        ];
        let told = |sub, key| {
            values(
                &limits,
                &[counted(9, 41_500_000), counted(sub, 0), counted(key, 0)],
            )
            .least_left
            .unwrap()
        };
        assert_eq!((told(10, 1).limit, told(10, 1).remaining), (100, 99));
        assert_eq!(told(950, 50).limit, 1_000);
        assert_eq!(told(1_200, 0).used, 1_200);
        assert_eq!(told(1_200, 0).remaining, 0);
        assert_eq!(told(1, 1).reset_text().as_str(), "2025-11-24T16:01:31Z");
        let tightest = values(
            &limits,
            &[counted(9, 41_500_000), counted(0, 0), counted(0, 0)],
        )
        .tightest
        .unwrap();
        assert_eq!(tightest.text().as_str(), "\"minute-subscription\";r=1;t=42");
    }

    #[test]
    fn without_a_quota_the_window_with_the_least_left_is_described() {
        let limits = [
            window(Per::Minute, 10),
            window(Per::Hour, 12),
            quota(By::Subscription, None),
        ];
        let told = values(
            &limits,
            &[counted(1, 5_000_000), counted(5, 9_000_000), counted(6, 0)],
        );
        let least = told.least_left.unwrap();
        assert_eq!((least.limit, least.used, least.remaining), (12, 5, 7));
        assert_eq!(least.reset_at, NOW.wall.plus_us(9_000_000));
        let unlimited = [quota(By::Subscription, None)];
        let told = values(&unlimited, &[counted(6, 0)]);
        assert_eq!(
            told,
            HeaderValues {
                least_left: None,
                tightest: None
            }
        );
        assert_eq!(policy_text(&unlimited), None);
    }

    #[test]
    fn on_a_refusal_the_limit_that_refused_is_described() {
        let limits = [
            window(Per::Minute, 10),
            window(Per::Hour, 12),
            quota(By::Subscription, Some(50)),
        ];
        let readings = [
            counted(10, 5_000_000),
            counted(12, 9_000_001),
            counted(50, 0),
        ];
        let refusal = Refusal {
            code: tollgate_model::DenialCode::RateLimited,
            name: limits[1].name,
            limit: 12,
            used: 12,
            remaining: 0,
            scope: By::Subscription,
            period: None,
            retry_after_s: Some(10),
            reset_at: None,
        };
        let told = HeaderValues::new(
            &limits,
            &readings,
            Some(&refusal),
            GivenBack::default(),
            NOW,
        );
        assert_eq!(told.least_left.unwrap().limit, 12);
        let tightest = told.tightest.unwrap();
        assert_eq!(tightest.text().as_str(), "\"hour-subscription\";r=0;t=10");
        // Without a refusal: the quota, and of what is used up alike the one that grows last.
        let told = values(&limits, &readings);
        assert_eq!(told.least_left.unwrap().limit, 50);
        assert_eq!(told.tightest.unwrap().name, limits[2].name);
    }

    #[test]
    fn what_the_head_gives_back_is_taken_off() {
        let limits = [window(Per::Minute, 10), quota(By::Subscription, Some(50))];
        let told = HeaderValues::new(
            &limits,
            &[counted(5, 1_000_000), counted(45, 0)],
            None,
            GivenBack {
                windows: 2,
                quotas: 5,
            },
            NOW,
        );
        assert_eq!(told.least_left.unwrap().used, 40);
        assert_eq!(told.tightest.unwrap().remaining, 7);
    }

    #[test]
    fn policies_name_every_limit_with_its_window() {
        let mut shadow = window(Per::Day, 1);
        shadow.rule = Rule::Window {
            per: Per::Day,
            max: None,
            shadow_max: Some(1),
        };
        let limits = [
            window(Per::Minute, 10),
            shadow,
            quota(By::Subscription, Some(1_000)),
            quota(By::Key, Some(1 << 53)),
        ];
        assert_eq!(
            policy_text(&limits).unwrap().as_str(),
            "\"minute-subscription\";q=10;w=60, \"month-subscription\";q=1000, \
             \"month-key\";q=999999999999999"
        );
    }
}
