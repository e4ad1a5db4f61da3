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
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use tollgate_admission::scope_of;
use tollgate_model::{By, Catalog, PeriodBasis, Plan, Subscription, SubscriptionId};

#[cfg(doc)]
use tollgate_model::CounterId;

use crate::keys::TakesHash;

/// A subscription and what hangs on it.
#[derive(Debug)]
pub(crate) struct Payer {
    pub(crate) subscription: Arc<Subscription>,
    /// The plan in force.
    pub(crate) plan: Arc<Plan>,
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
            let payer = Payer {
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
