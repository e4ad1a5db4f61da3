//! What the store knows was used of every quota in its current period, told to the gateway: one
//! whose journal is new, or was lost, must not begin from zero. A gateway that knows better keeps
//! what it knows.
//!
//! What is told holds from before the first request is served: a checkpoint has it then, so that
//! a kill right afterwards forgets none of it.

use std::collections::BTreeMap;

use anyhow::ensure;
use tollgate_control::Control;
use tollgate_gateway::{Gateway, GatewayHandle};
use tollgate_metering::{Metering, Shipper};
use tollgate_model::{By, KeyId, Period, Quota, SubscriptionId, Timestamp};
use tollgate_store::{PeriodScope, PeriodUnits, Store};

use super::carry::{Calendar, Carrier};

/// The longest period, and a day for time zones, in microseconds.
const LONGEST_PERIOD_US: i64 = 367 * 86_400_000_000;

/// Where what is told comes from.
pub struct Sources<'a> {
    control: &'a Control,
    store: &'a dyn Store,
    metering: &'a Metering,
    shipper: &'a Shipper,
}

impl<'a> Sources<'a> {
    /// The same that is carried over from.
    #[must_use]
    pub fn of(control: &'a Control, store: &'a dyn Store, carrier: &'a Carrier) -> Self {
        Self {
            control,
            store,
            metering: &carrier.metering,
            shipper: &carrier.shipper,
        }
    }
}

/// Seeds every quota of which something was used in the period that holds `now`.
///
/// # Errors
/// When the store cannot be read, or no checkpoint can be written.
pub async fn quotas(gateway: &Gateway, from: &Sources<'_>, now: Timestamp) -> anyhow::Result<()> {
    let handle = gateway.handle();
    // Then nothing says how long the periods were that the store has sums of.
    let unknown = gateway.is_fresh() || handle.awaits_quotas();
    let mut mixed: BTreeMap<SubscriptionId, Period> = BTreeMap::new();
    let since = now.plus_us(-LONGEST_PERIOD_US);
    for used in from.store.list_period_units(since).await? {
        let Some((by, subscription, current)) = find_current(from, &used, now).await? else {
            continue;
        };
        if current.start == used.start {
            let id = match &used.scope {
                PeriodScope::Subscription(id) => id.as_str(),
                PeriodScope::Key(id) => id.as_str(),
            };
            handle.seed_quota(by, id, current, used.units);
        } else if by == By::Subscription
            && (unknown || reaches_into(&handle, &subscription, used.start, current))
        {
            mixed.insert(subscription, current);
        }
    }
    carry_mixed(&handle, from, &mixed, now).await?;
    handle.quotas_are_known();
    let written = tokio::task::spawn_blocking(move || handle.checkpoint()).await?;
    ensure!(
        written,
        "no checkpoint of the counters could be written: see the error above, and free the \
         journal's disk"
    );
    Ok(())
}

/// Whether what began then, under periods of another length, may count in the current period too.
fn reaches_into(
    gateway: &GatewayHandle,
    subscription: &SubscriptionId,
    start: Timestamp,
    current: Period,
) -> bool {
    let known = || gateway.find_quota(By::Subscription, subscription.as_str(), start);
    start > current.start || known().is_some_and(|quota| quota.ends_at > current.start)
}

/// Quotas whose periods were changed within the current one: all events of its time are summed up.
async fn carry_mixed(
    gateway: &GatewayHandle,
    from: &Sources<'_>,
    mixed: &BTreeMap<SubscriptionId, Period>,
    now: Timestamp,
) -> anyhow::Result<()> {
    if mixed.is_empty() {
        return Ok(());
    }
    if let Err(error) = from.shipper.flush().await {
        tracing::warn!(%error, "sums of quotas whose periods were changed lack what is not shipped");
    }
    for (id, current) in mixed {
        let to = now.plus_us(1);
        let sum = from.metering.units_of_subscription(id, current.start, to);
        gateway.carry_quota(By::Subscription, id.as_str(), *current, sum.await?);
    }
    Ok(())
}

/// Whose quota it is, and its period of this moment; `None` where there is no such quota any more.
async fn find_current(
    from: &Sources<'_>,
    used: &PeriodUnits,
    now: Timestamp,
) -> anyhow::Result<Option<(By, SubscriptionId, Period)>> {
    let (by, id, own) = match &used.scope {
        PeriodScope::Subscription(id) => (By::Subscription, id.clone(), None),
        PeriodScope::Key(family) => match find_quota_of_key(from.store, family).await? {
            Some((id, quota)) => (By::Key, id, Some(quota)),
            None => return Ok(None),
        },
    };
    let catalog = from.control.catalog();
    let subscription = catalog.subscriptions.get(&id);
    let Some(calendar) = subscription.and_then(|found| Calendar::of(&catalog, found)) else {
        return Ok(None);
    };
    let calendar = match own {
        Some(quota) => calendar.every(quota.every),
        None => calendar,
    };
    Ok(Some((by, id, calendar.at(now)?)))
}

async fn find_quota_of_key(
    store: &dyn Store,
    family: &KeyId,
) -> anyhow::Result<Option<(SubscriptionId, Quota)>> {
    let found = store.find_key(family).await?;
    Ok(found.and_then(|found| Some((found.key.subscription, found.key.quota?))))
}
