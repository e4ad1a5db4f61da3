//! Subscriptions as a decision asks them: found by what counters know them by, each with its plan.
//!
//! Made once for a catalog. Keys carry their subscription's scope, so finding it needs neither its
//! name nor a hash of it, and the same number names its counters.
//!
//! **Invariant.** A scope means one subscription: where two had the same (see
//! [`CounterId::SCOPE_BITS`]), neither is found and their calls are refused.
//!
//! **Does not own** the catalog's objects.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use tollgate_admission::scope_of;
use tollgate_model::{
    ApiId, By, Catalog, PeriodBasis, Plan, Subscription, SubscriptionId, SubscriptionState,
};

#[cfg(doc)]
use tollgate_model::CounterId;

use crate::keys::TakesHash;

/// A subscription and what hangs on it.
#[derive(Debug)]
pub(crate) struct Payer {
    pub(crate) subscription: Arc<Subscription>,
    /// The plan in force.
    pub(crate) plan: Arc<Plan>,
    /// The subscription's, here and shared among subscriptions to the same: a decision asks nothing
    /// else of it, and so does not wait for it.
    pub(crate) apis: Arc<[ApiId]>,
    pub(crate) state: SubscriptionState,
    /// What counters know it by.
    pub(crate) scope: u128,
    /// Which calendar its periods follow; those of one catalog with the same number have the same.
    pub(crate) calendar: u32,
}

/// The subscriptions of a catalog, by scope.
#[derive(Debug, Default)]
pub(crate) struct Payers(HashMap<u128, Arc<Payer>, BuildHasherDefault<TakesHash>>);

/// What counters know a subscription by.
pub(crate) fn scope_of_subscription(id: &SubscriptionId) -> u128 {
    scope_of(By::Subscription, id.as_str())
}

impl Payers {
    pub(crate) fn of(catalog: &Catalog) -> Self {
        let mut payers = HashMap::default();
        payers.reserve(catalog.subscriptions.len());
        let mut calendars = HashMap::new();
        let mut ambiguous = Vec::new();
        let mut offers: HashSet<Arc<[ApiId]>> = HashSet::new();
        for subscription in catalog.subscriptions.values() {
            let Some(plan) = catalog.find_plan_of(subscription) else {
                continue;
            };
            let zone = &subscription.time_zone;
            let zone = zone
                .iana_name()
                .map_or_else(|| Cow::Owned(format!("{zone:?}")), Cow::Borrowed);
            let anniversary = plan.period == PeriodBasis::Anniversary;
            let first_day = anniversary.then_some(subscription.started_on);
            let unused = u32::try_from(calendars.len()).unwrap_or(u32::MAX);
            let known = offers.get(subscription.apis.as_slice()).map(Arc::clone);
            let apis = known.unwrap_or_else(|| {
                let apis: Arc<[ApiId]> = subscription.apis.as_slice().into();
                offers.insert(Arc::clone(&apis));
                apis
            });
            let payer = Payer {
                apis,
                state: subscription.state,
                subscription: Arc::clone(subscription),
                plan: Arc::clone(plan),
                scope: scope_of_subscription(&subscription.id),
                calendar: *calendars.entry((zone, first_day)).or_insert(unused),
            };
            let scope = payer.scope;
            if let Some(other) = payers.insert(scope, Arc::new(payer)) {
                tracing::error!(one = %subscription.id, other = %other.subscription.id,
                    "two subscriptions have the same hash, their calls are refused: give one of \
                     them another id");
                ambiguous.push(scope);
            }
        }
        for scope in ambiguous {
            payers.remove(&scope);
        }
        Self(payers)
    }

    /// The subscription of a scope.
    pub(crate) fn find(&self, scope: u128) -> Option<&Arc<Payer>> {
        self.0.get(&scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{catalog_of, plan, subscription};
    use jiff::civil::date;
    use jiff::tz::{TimeZone, offset};
    use tollgate_model::PlanId;

    #[test]
    fn one_calendars_number_means_one_zone_and_for_anniversaries_one_first_day() {
        let mut catalog = catalog_of(Vec::new());
        let mut put = |id: &str, plan: &str, zone: TimeZone, day: i8| {
            let mut one = subscription(id, plan, &[]);
            one.time_zone = zone;
            one.started_on = date(2026, 1, day);
            catalog.subscriptions.insert(one.id.clone(), Arc::new(one));
        };
        let zone = |name| TimeZone::get(name).unwrap();
        put("a", "by-month", zone("UTC"), 1);
        put("b", "by-month", zone("UTC"), 2);
        put("c", "by-month", zone("Europe/Berlin"), 1);
        put("d", "by-start", zone("UTC"), 1);
        put("e", "by-start", zone("UTC"), 2);
        put("f", "by-start", zone("UTC"), 2);
        put("g", "by-month", TimeZone::fixed(offset(3)), 1);
        put("h", "by-month", TimeZone::fixed(offset(4)), 1);
        put("i", "no-such-plan", zone("UTC"), 1);
        let by_month = plan("by-month");
        let mut by_start = plan("by-start");
        by_start.period = PeriodBasis::Anniversary;
        for plan in [by_month, by_start] {
            let id = PlanId::new(plan.id.as_str());
            catalog.plans.insert(id, Arc::new(plan));
        }
        let payers = Payers::of(&catalog);
        let find = |id: &str| payers.find(scope_of_subscription(&SubscriptionId::new(id)));
        let calendar = |id: &str| find(id).unwrap().calendar;
        for id in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            assert_eq!(find(id).unwrap().subscription.id.as_str(), id);
        }
        assert_eq!(calendar("a"), calendar("b"));
        assert_eq!(calendar("e"), calendar("f"));
        let distinct: std::collections::HashSet<u32> =
            ["a", "c", "d", "e", "g", "h"].map(calendar).into();
        assert_eq!(distinct.len(), 6);
        // Who has no plan is not known at all.
        assert!(find("i").is_none());
    }
}
