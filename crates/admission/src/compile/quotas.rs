//! The quotas of a caller, and the calendar that their periods follow.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use smallvec::SmallVec;
use tollgate_model::{By, Every, Now, Period, PeriodBasis, Quota, Timestamp, period_at};

use super::{Caller, Scopes, Whose};
use crate::name::{Length, LimitName};

#[derive(Debug, Clone)]
pub(super) struct QuotaTerms {
    pub(super) name: LimitName,
    pub(super) every: Every,
    pub(super) units: Option<u64>,
    pub(super) refuse_at: Option<u64>,
    pub(super) whose: Whose,
    /// The period of the moment of compiling.
    pub(super) period: Period,
}

/// Where periods begin.
#[derive(Debug, Clone)]
pub(super) struct Calendar {
    basis: PeriodBasis,
    anchor: Date,
    zone: TimeZone,
}

/// All quotas that apply.
pub(super) fn quotas_of(
    caller: Caller<'_>,
    calendar: &Calendar,
    now: Now,
    scopes: &mut Scopes,
) -> Box<[QuotaTerms]> {
    let compile = |by: By, whose: Whose, quota: Option<&Quota>| {
        let every = quota.map_or(Every::Month, |quota| quota.every);
        QuotaTerms {
            name: LimitName {
                length: Length::Period(every),
                by,
                on_route: false,
            },
            every,
            units: quota.map(|quota| quota.units),
            refuse_at: quota.and_then(Quota::refuse_at),
            whose,
            period: calendar.period(every, now.wall),
        }
    };
    let mut quotas: SmallVec<[QuotaTerms; 2]> = SmallVec::new();
    match caller {
        Caller::Subscribed { key, plan, .. } => {
            let whose = scopes.of(By::Subscription, false);
            quotas.push(compile(By::Subscription, whose, plan.quota.as_ref()));
            if let Some(quota) = key.and_then(|key| key.quota) {
                let whose = scopes.of(By::Key, false);
                quotas.push(compile(By::Key, whose, Some(quota)));
            }
        }
        // Addresses do not change plans, so an unlimited one needs no counter.
        Caller::Anonymous { plan } => {
            let quota = plan.quota.as_ref();
            quotas.extend(quota.map(|quota| compile(By::Address, Whose::Address, Some(quota))));
        }
        Caller::Open => {}
    }
    quotas.into_vec().into()
}

impl Calendar {
    pub(super) fn of(caller: Caller<'_>) -> Self {
        match caller {
            Caller::Subscribed {
                subscription, plan, ..
            } => Self {
                basis: plan.period,
                anchor: subscription.started_on,
                zone: subscription.time_zone.clone(),
            },
            Caller::Anonymous { .. } | Caller::Open => Self {
                basis: PeriodBasis::Calendar,
                anchor: Date::constant(1970, 1, 1),
                zone: TimeZone::UTC,
            },
        }
    }

    pub(super) fn period(&self, every: Every, at: Timestamp) -> Period {
        // Instants beyond the calendar's ten thousand years lie in one endless period.
        period_at(at, every, self.basis, self.anchor, &self.zone).unwrap_or(Period {
            start: Timestamp(i64::MIN),
            end: Timestamp(i64::MAX),
        })
    }
}
