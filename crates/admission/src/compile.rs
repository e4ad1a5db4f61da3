//! Which limits and quotas a caller must pass on a route, worked out once for a catalog, a key
//! and a route, so that a request only stamps the period and, where it counts, the address.
//!
//! | stands on | `by` unset | callers without a key | open routes |
//! |---|---|---|---|
//! | the plan | subscription | every `by` means the address | left out |
//! | the key | key family | - | left out |
//! | the route | subscription | `api` and `route` as they are, else the address | every `by` means the address |
//!
//! Quotas belong to the subscription (or, without a key, the address) and to the key, each with
//! periods of the subscription's calendar. A plan without a quota is counted by month all the
//! same, unlimited: a change to a plan with one then starts from what was used.
//!
//! **Invariants.** Two limits of one name are one counter, and stand as one entry with the lowest
//! maximum. A period is never left for an earlier one, whatever the wall clock does.

mod windows;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use smallvec::SmallVec;
use tollgate_model::{
    Api, ApiKey, By, Catalog, CounterId, CounterScope, Every, KeyId, Now, Per, Period, PeriodBasis,
    Plan, Quota, RateLimit, Route, Subscription, Ticks, Timestamp, period_at,
};

use crate::address::Address;
use crate::applicable::{Applicable, Limits, Rule};
use crate::headers::policy_text;
use crate::name::{Length, LimitName};
use crate::text::Text;
use crate::window::SLOTS_PER_SPAN;
use windows::{template_of, windows_of};

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// A key of a subscription, or the subscription itself where no key is meant.
    Subscribed {
        /// The key, if any.
        key: Option<KeyTerms<'a>>,
        /// Whose quota it is.
        subscription: &'a Subscription,
        /// The plan in force.
        plan: &'a Plan,
    },
    /// Nobody known, under the API's plan for such callers.
    Anonymous {
        /// That plan.
        plan: &'a Plan,
    },
    /// Anybody on an open route.
    Open,
}

/// What of a key bears on limits.
#[derive(Debug, Clone, Copy)]
pub struct KeyTerms<'a> {
    /// The first key of its line of rotations: whose counters they are.
    pub family: &'a KeyId,
    /// Its own limits.
    pub limits: &'a [RateLimit],
    /// Its own quota.
    pub quota: Option<&'a Quota>,
}

impl<'a> From<&'a ApiKey> for KeyTerms<'a> {
    fn from(key: &'a ApiKey) -> Self {
        Self {
            family: &key.family,
            limits: &key.limits,
            quota: key.quota.as_ref(),
        }
    }
}

/// How long the counters of an address may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressHold {
    /// Its windows.
    pub until_ticks: Ticks,
    /// Its quotas.
    pub until_wall: Timestamp,
}

/// The limits and quotas of one caller on one route.
#[derive(Debug, Clone)]
pub struct CompiledLimits {
    windows: Box<[CompiledWindow]>,
    quotas: Box<[CompiledQuota]>,
    calendar: Calendar,
    /// API and route template, where something by address stands on the route.
    route: Option<(Box<str>, Box<str>)>,
    policy: Option<Text>,
}

#[derive(Debug, Clone)]
struct CompiledWindow {
    name: LimitName,
    per: Per,
    max: Option<u32>,
    shadow_max: Option<u32>,
    /// `None`: by address.
    counter: Option<CounterId>,
}

#[derive(Debug, Clone)]
struct CompiledQuota {
    name: LimitName,
    every: Every,
    units: Option<u64>,
    refuse_at: Option<u64>,
    /// What its periods have in common; `None`: by address.
    base: Option<CounterId>,
    /// The period of the moment of compiling, and its counter.
    period: Period,
    counter: Option<CounterId>,
}

/// Where periods begin.
#[derive(Debug, Clone)]
struct Calendar {
    basis: PeriodBasis,
    anchor: Date,
    zone: TimeZone,
}

impl CompiledLimits {
    /// Works out what applies. `now` sets the periods that are kept ready.
    #[must_use]
    pub fn new(
        catalog: &Catalog,
        caller: Caller<'_>,
        api: &Api,
        route: Option<&Route>,
        now: Now,
    ) -> Self {
        let template = template_of(api, route);
        let windows = windows_of(catalog, caller, api, route, &template);
        let calendar = Calendar::of(caller);
        let on_route_by_address = windows
            .iter()
            .any(|window| window.counter.is_none() && window.name.on_route);
        let route = on_route_by_address.then(|| (api.id.as_str().into(), template.into()));
        let mut compiled = Self {
            quotas: quotas_of(caller, &calendar, now),
            windows,
            calendar,
            route,
            policy: None,
        };
        // The policy names maxima only: any address and moment give the same text.
        compiled.policy = policy_text(&compiled.at(now, Some(&Address::shared())));
        compiled
    }

    /// Whether some counter is by the client's address, which [`Self::at`] must then be given.
    #[must_use]
    pub fn needs_address(&self) -> bool {
        self.windows.iter().any(|window| window.counter.is_none())
            || self.quotas.iter().any(|quota| quota.base.is_none())
    }

    /// How long counters of an address live that are charged now.
    #[must_use]
    pub fn address_hold(&self, now: Now) -> AddressHold {
        let by_address = self.windows.iter().filter(|w| w.counter.is_none());
        let span_us = by_address.map(|w| w.per.span_us()).max().unwrap_or(0);
        let quotas = self.quotas.iter().filter(|quota| quota.base.is_none());
        let end = quotas.map(|quota| self.period_of(quota, now).end).max();
        AddressHold {
            // A unit counts a sixtieth longer than its span at most; a second one is rounding.
            until_ticks: now
                .ticks
                .plus_us(span_us + span_us.div_ceil(SLOTS_PER_SPAN) * 2),
            until_wall: end.unwrap_or(Timestamp(0)),
        }
    }

    /// Whether the periods kept ready are those of this moment. Where not, [`Self::at`] is right
    /// all the same but has to ask the calendar each time: compile anew.
    #[must_use]
    pub fn is_current(&self, now: Now) -> bool {
        self.quotas.iter().all(|quota| now.wall < quota.period.end)
    }

    /// The limits and quotas of a request that is admitted now. Without an address those by
    /// address are left out.
    #[must_use]
    pub fn at(&self, now: Now, address: Option<&Address>) -> Limits {
        let mut limits = Limits::new();
        for window in &self.windows {
            let counter = window.counter.or_else(|| {
                let scope = self.address_scope(address?, window.name.on_route);
                Some(CounterId::window(scope, window.per))
            });
            limits.extend(counter.map(|counter| Applicable {
                counter,
                name: window.name,
                rule: Rule::Window {
                    per: window.per,
                    max: window.max,
                    shadow_max: window.shadow_max,
                },
            }));
        }
        for quota in &self.quotas {
            let period = self.period_of(quota, now);
            let counter = match (quota.counter, quota.base, address) {
                (Some(counter), ..) if period == quota.period => counter,
                (_, Some(base), _) => base.in_period(period.start),
                (_, None, Some(address)) => {
                    CounterId::quota(self.address_scope(address, false)).in_period(period.start)
                }
                (_, None, None) => continue,
            };
            limits.push(Applicable {
                counter,
                name: quota.name,
                rule: Rule::Quota {
                    every: quota.every,
                    units: quota.units,
                    refuse_at: quota.refuse_at,
                    period,
                },
            });
        }
        limits
    }

    /// The value of `RateLimit-Policy`; `None` where there is nothing to name.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_ref().map(Text::as_str)
    }

    /// The period that holds this moment of the quota of this scope: what events carry as the
    /// subscription's or key's period.
    #[must_use]
    pub fn period(&self, by: By, now: Now) -> Option<Period> {
        let quota = self.quotas.iter().find(|quota| quota.name.by == by)?;
        Some(self.period_of(quota, now))
    }

    fn period_of(&self, quota: &CompiledQuota, now: Now) -> Period {
        if now.wall < quota.period.end {
            quota.period
        } else {
            self.calendar.period(quota.every, now.wall)
        }
    }

    fn address_scope<'a>(&'a self, address: &'a Address, on_route: bool) -> CounterScope<'a> {
        let route = self.route.as_ref().filter(|_| on_route);
        CounterScope {
            by: By::Address,
            id: address.as_str(),
            route: route.map(|(api, template)| (&**api, &**template)),
        }
    }
}

fn quotas_of(caller: Caller<'_>, calendar: &Calendar, now: Now) -> Box<[CompiledQuota]> {
    let compile = |by: By, id: Option<&str>, quota: Option<&Quota>| {
        let every = quota.map_or(Every::Month, |quota| quota.every);
        let scope = |id| CounterScope {
            by,
            id,
            route: None,
        };
        let base = id.map(|id| CounterId::quota(scope(id)));
        let period = calendar.period(every, now.wall);
        CompiledQuota {
            name: LimitName {
                length: Length::Period(every),
                by,
                on_route: false,
            },
            every,
            units: quota.map(|quota| quota.units),
            refuse_at: quota.and_then(Quota::refuse_at),
            base,
            period,
            counter: base.map(|base| base.in_period(period.start)),
        }
    };
    let mut quotas: SmallVec<[CompiledQuota; 2]> = SmallVec::new();
    match caller {
        Caller::Subscribed {
            key,
            subscription,
            plan,
        } => {
            let id = subscription.id.as_str();
            quotas.push(compile(By::Subscription, Some(id), plan.quota.as_ref()));
            if let Some((key, quota)) = key.and_then(|key| Some((key, key.quota?))) {
                quotas.push(compile(By::Key, Some(key.family.as_str()), Some(quota)));
            }
        }
        // Addresses do not change plans, so an unlimited one needs no counter.
        Caller::Anonymous { plan } => {
            quotas.extend(
                plan.quota
                    .as_ref()
                    .map(|quota| compile(By::Address, None, Some(quota))),
            );
        }
        Caller::Open => {}
    }
    quotas.into_vec().into()
}

impl Calendar {
    fn of(caller: Caller<'_>) -> Self {
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

    fn period(&self, every: Every, at: Timestamp) -> Period {
        // Instants beyond the calendar's ten thousand years lie in one endless period.
        period_at(at, every, self.basis, self.anchor, &self.zone).unwrap_or(Period {
            start: Timestamp(i64::MIN),
            end: Timestamp(i64::MAX),
        })
    }
}

#[cfg(test)]
mod tests;
