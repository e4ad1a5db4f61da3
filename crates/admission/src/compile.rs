//! Which limits and quotas a caller must pass on a route.
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
//! Two steps. [`LimitTerms`] are worked out once for a plan, a route and a calendar: names, maxima,
//! the period in force. They are the same for all callers of the plan, unless a key has limits of
//! its own. [`LimitTerms::bind`] then says whose counters are meant: one number for each scope of
//! the caller, most often the subscription's and the key's, which are known beforehand. So nothing
//! has to be kept for every caller, and a request only stamps the period and, where it counts, the
//! address.
//!
//! **Invariants.** Two limits of one name are one counter, and stand as one entry with the lowest
//! maximum. A period is never left for an earlier one, whatever the wall clock does.

mod quotas;
mod windows;

use std::rc::Rc;

use smallvec::SmallVec;
use tollgate_model::{
    Api, ApiKey, By, Catalog, CounterId, CounterScope, KeyId, Now, Per, Period, Plan, Quota,
    RateLimit, Route, Subscription, Ticks, Timestamp,
};

use crate::address::Address;
use crate::applicable::{Applicable, Limits, Rule};
use crate::headers::policy_text;
use crate::name::LimitName;
use crate::text::Text;
use crate::window::SLOTS_PER_SPAN;
use quotas::{Calendar, QuotaTerms, quotas_of};
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

/// What counters know a caller by, where it was worked out beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KnownScopes {
    /// [`scope_of`] the subscription.
    pub subscription: Option<u128>,
    /// [`scope_of`] the key's family.
    pub key: Option<u128>,
}

/// What counters know somebody by who has counters of their own: a subscription, a key family.
#[must_use]
pub fn scope_of(by: By, id: &str) -> u128 {
    let route = None;
    CounterId::quota(CounterScope { by, id, route }).scope()
}

/// The limits and quotas of a plan on a route, and of a key that has its own: the same for all
/// callers but for whose counters they mean.
#[derive(Debug)]
pub struct LimitTerms {
    windows: Box<[WindowTerms]>,
    quotas: Box<[QuotaTerms]>,
    /// Scopes of the caller that counters stand in: whose, and whether on the route.
    scopes: Box<[(By, bool)]>,
    calendar: Calendar,
    /// API and route template, where something by caller or address stands on the route.
    route: Option<(Box<str>, Box<str>)>,
    policy: Option<Text>,
    /// What [`CompiledLimits::at`] begins with: windows, then quotas in their periods kept ready,
    /// with counters that lack their scope.
    templates: Box<[Applicable]>,
}

/// The limits and quotas of one caller on one route. Belongs to one thread, as the terms do: counting
/// who uses them is then no business of other processors.
#[derive(Debug, Clone)]
pub struct CompiledLimits {
    terms: Rc<LimitTerms>,
    /// The caller's scopes, in the order of the terms'.
    scopes: SmallVec<[u128; 4]>,
}

/// Whose counter a limit means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The same for all callers.
    Everybodys(u128),
    /// The caller's, by its place among the scopes.
    Callers(usize),
    /// The client's address.
    Address,
}

#[derive(Debug, Clone)]
struct WindowTerms {
    name: LimitName,
    per: Per,
    max: Option<u32>,
    shadow_max: Option<u32>,
    whose: Whose,
}

impl LimitTerms {
    /// Works out what applies. `now` sets the periods that are kept ready. Good for every caller
    /// of the same plan, with a key or without, whose subscription has the same calendar (zone
    /// and, for anniversaries, first day), and who has no limits or quota on the key; for those,
    /// for the key alone.
    #[must_use]
    pub fn new(
        catalog: &Catalog,
        caller: Caller<'_>,
        api: &Api,
        route: Option<&Route>,
        now: Now,
    ) -> Self {
        let template = template_of(api, route);
        let mut scopes = Scopes::default();
        let windows = windows_of(catalog, caller, api, route, &template, &mut scopes);
        let calendar = Calendar::of(caller);
        let quotas = quotas_of(caller, &calendar, now, &mut scopes);
        let on_route = windows
            .iter()
            .any(|window| window.name.on_route && !matches!(window.whose, Whose::Everybodys(_)));
        let mut terms = Self {
            windows,
            quotas,
            scopes: scopes.0.into(),
            calendar,
            route: on_route.then(|| (api.id.as_str().into(), template.into())),
            policy: None,
            templates: Box::default(),
        };
        terms.templates = terms.templates();
        // The policy names maxima only: any caller, address and moment give the same text.
        let nobody: SmallVec<[u128; 4]> = terms.scopes.iter().map(|_| 0).collect();
        terms.policy = policy_text(&terms.at(&nobody, now, Some(&Address::shared())));
        terms
    }

    /// The limits of one of the callers that the terms are good for.
    #[must_use]
    pub fn bind(self: &Rc<Self>, caller: Caller<'_>, known: KnownScopes) -> CompiledLimits {
        let scope = |(by, on_route): &(By, bool)| match (by, known.subscription, known.key) {
            (By::Subscription, Some(scope), _) | (By::Key, _, Some(scope)) if !on_route => scope,
            _ => {
                let route = self.route.as_ref().filter(|_| *on_route);
                let route = route.map(|(api, template)| (&**api, &**template));
                let id = id_of(caller, *by).unwrap_or_default();
                CounterId::quota(CounterScope { by: *by, id, route }).scope()
            }
        };
        CompiledLimits {
            scopes: self.scopes.iter().map(scope).collect(),
            terms: Rc::clone(self),
        }
    }

    /// Whether the periods kept ready are those of this moment. Where not, [`CompiledLimits::at`]
    /// is right all the same but has to ask the calendar each time: work them out anew.
    #[must_use]
    pub fn is_current(&self, now: Now) -> bool {
        self.quotas.iter().all(|quota| now.wall < quota.period.end)
    }

    fn templates(&self) -> Box<[Applicable]> {
        let windows = self.windows.iter().map(|window| Applicable {
            counter: CounterId::window_of(0, window.per),
            name: window.name,
            rule: Rule::Window {
                per: window.per,
                max: window.max,
                shadow_max: window.shadow_max,
            },
        });
        let quotas = self.quotas.iter().map(|quota| Applicable {
            counter: CounterId::of_parts(0, 0).in_period(quota.period.start),
            name: quota.name,
            rule: Rule::Quota {
                every: quota.every,
                units: quota.units,
                refuse_at: quota.refuse_at,
                period: quota.period,
            },
        });
        windows.chain(quotas).collect()
    }

    fn at(&self, scopes: &[u128], now: Now, address: Option<&Address>) -> Limits {
        // Copied as they are, then only the scopes are put in.
        let mut limits = Limits::from_slice(&self.templates);
        let mut left_out = false;
        for (limit, whose) in limits.iter_mut().zip(self.whose()) {
            let scope = match whose {
                Whose::Everybodys(scope) => Some(scope),
                Whose::Callers(place) => scopes.get(place).copied(),
                Whose::Address => address.map(|a| self.address_scope(a, limit.name.on_route)),
            };
            if let Rule::Quota { every, period, .. } = &mut limit.rule
                && now.wall >= period.end
            {
                *period = self.calendar.period(*every, now.wall);
                limit.counter = CounterId::of_parts(0, 0).in_period(period.start);
            }
            let within = limit.counter.within_scope();
            match scope {
                Some(scope) => limit.counter = CounterId::of_parts(scope, within),
                None => left_out = true,
            }
        }
        if left_out {
            let mut whose = self.whose();
            let has_scope = |whose| match whose {
                Some(Whose::Address) => address.is_some(),
                Some(Whose::Callers(place)) => place < scopes.len(),
                _ => true,
            };
            limits.retain(|_| has_scope(whose.next()));
        }
        limits
    }

    /// Whose counters the windows and quotas mean, in their order.
    fn whose(&self) -> impl Iterator<Item = Whose> + '_ {
        let windows = self.windows.iter().map(|window| window.whose);
        windows.chain(self.quotas.iter().map(|quota| quota.whose))
    }

    fn period_of(&self, quota: &QuotaTerms, now: Now) -> Period {
        if now.wall < quota.period.end {
            quota.period
        } else {
            self.calendar.period(quota.every, now.wall)
        }
    }

    fn address_scope(&self, address: &Address, on_route: bool) -> u128 {
        let route = self.route.as_ref().filter(|_| on_route);
        let scope = CounterScope {
            by: By::Address,
            id: address.as_str(),
            route: route.map(|(api, template)| (&**api, &**template)),
        };
        CounterId::quota(scope).scope()
    }
}

impl CompiledLimits {
    /// Works out what applies to one caller alone. `now` sets the periods that are kept ready.
    #[must_use]
    pub fn new(
        catalog: &Catalog,
        caller: Caller<'_>,
        api: &Api,
        route: Option<&Route>,
        now: Now,
    ) -> Self {
        let terms = Rc::new(LimitTerms::new(catalog, caller, api, route, now));
        terms.bind(caller, KnownScopes::default())
    }

    /// Whether some counter is by the client's address, which [`Self::at`] must then be given.
    #[must_use]
    pub fn needs_address(&self) -> bool {
        self.terms.whose().any(|whose| whose == Whose::Address)
    }

    /// How long counters of an address live that are charged now.
    #[must_use]
    pub fn address_hold(&self, now: Now) -> AddressHold {
        let windows = self.terms.windows.iter();
        let by_address = windows.filter(|w| w.whose == Whose::Address);
        let span_us = by_address.map(|w| w.per.span_us()).max().unwrap_or(0);
        let quotas = self.terms.quotas.iter();
        let by_address = quotas.filter(|quota| quota.whose == Whose::Address);
        let end = by_address
            .map(|quota| self.terms.period_of(quota, now).end)
            .max();
        AddressHold {
            // A unit counts a sixtieth longer than its span at most; a second one is rounding.
            until_ticks: now
                .ticks
                .plus_us(span_us + span_us.div_ceil(SLOTS_PER_SPAN) * 2),
            until_wall: end.unwrap_or(Timestamp(0)),
        }
    }

    /// See [`LimitTerms::is_current`].
    #[must_use]
    pub fn is_current(&self, now: Now) -> bool {
        self.terms.is_current(now)
    }

    /// The limits and quotas of a request that is admitted now. Without an address those by
    /// address are left out.
    #[must_use]
    pub fn at(&self, now: Now, address: Option<&Address>) -> Limits {
        self.terms.at(&self.scopes, now, address)
    }

    /// The value of `RateLimit-Policy`; `None` where there is nothing to name.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.terms.policy.as_ref().map(Text::as_str)
    }

    /// The period that holds this moment of the quota of this scope: what events carry as the
    /// subscription's or key's period.
    #[must_use]
    pub fn period(&self, by: By, now: Now) -> Option<Period> {
        let quota = self.terms.quotas.iter().find(|quota| quota.name.by == by)?;
        Some(self.terms.period_of(quota, now))
    }
}

/// Scopes of the caller, each once.
#[derive(Default)]
struct Scopes(Vec<(By, bool)>);

impl Scopes {
    fn of(&mut self, by: By, on_route: bool) -> Whose {
        let wanted = (by, on_route);
        let place = self.0.iter().position(|scope| *scope == wanted);
        Whose::Callers(place.unwrap_or_else(|| {
            self.0.push(wanted);
            self.0.len() - 1
        }))
    }
}

/// The caller's id in a scope of its own; `None` where it has none.
fn id_of<'a>(caller: Caller<'a>, by: By) -> Option<&'a str> {
    let Caller::Subscribed {
        key, subscription, ..
    } = caller
    else {
        return None;
    };
    match by {
        By::Subscription => Some(subscription.id.as_str()),
        By::Organization => Some(subscription.organization.as_str()),
        By::Key => key.map(|key| key.family.as_str()),
        By::Api | By::Route | By::Address => None,
    }
}

#[cfg(test)]
mod tests;
