//! What the store knows was used of every quota in its current period, told to the gateway: one
//! whose journal is new, or was lost, must not begin from zero. A gateway that knows better keeps
//! what it knows.

use jiff::civil::Date;
use tollgate_control::Control;
use tollgate_gateway::GatewayHandle;
use tollgate_model::{By, KeyId, Period, PeriodBasis, Quota, Subscription, Timestamp, period_at};
use tollgate_store::{PeriodScope, Store};

/// The longest period, and a day for time zones, in microseconds.
const LONGEST_PERIOD_US: i64 = 367 * 86_400_000_000;

/// Seeds every quota of which something was used in the period that holds `now`.
///
/// # Errors
/// When the store cannot be read.
pub async fn quotas(
    gateway: &GatewayHandle,
    control: &Control,
    store: &dyn Store,
    now: Timestamp,
) -> anyhow::Result<()> {
    let catalog = control.catalog();
    for used in store
        .list_period_units(now.plus_us(-LONGEST_PERIOD_US))
        .await?
    {
        let (by, id, subscription, own) = match &used.scope {
            PeriodScope::Subscription(id) => (By::Subscription, id.as_str(), id.clone(), None),
            PeriodScope::Key(id) => match find_quota_of_key(store, id).await? {
                Some((subscription, quota)) => (By::Key, id.as_str(), subscription, Some(quota)),
                None => continue,
            },
        };
        let Some(subscription) = catalog.subscriptions.get(&subscription) else {
            continue;
        };
        let Some(plan) = catalog.find_plan_of(subscription) else {
            continue;
        };
        let Some(quota) = own.or(plan.quota) else {
            continue;
        };
        let current = current_period(subscription, &quota, plan.period, now);
        if let Some(period) = current.filter(|period| period.start == used.start) {
            gateway.seed_quota(by, id, period, used.units);
        }
    }
    gateway.quotas_are_known();
    Ok(())
}

async fn find_quota_of_key(
    store: &dyn Store,
    family: &KeyId,
) -> anyhow::Result<Option<(tollgate_model::SubscriptionId, Quota)>> {
    let found = store.find_key(family).await?;
    Ok(found.and_then(|found| Some((found.key.subscription, found.key.quota?))))
}

fn current_period(
    subscription: &Subscription,
    quota: &Quota,
    basis: PeriodBasis,
    now: Timestamp,
) -> Option<Period> {
    let anchor: Date = subscription.started_on;
    period_at(now, quota.every, basis, anchor, &subscription.time_zone).ok()
}
