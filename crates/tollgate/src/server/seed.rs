//! What the store knows was used of every quota in its current period, told to the gateway: one
//! whose journal is new, or was lost, must not begin from zero. A gateway that knows better keeps
//! what it knows.
//!
//! What was used under periods of another length or zone counts too, where their time reaches into
//! the current period: what is recorded is summed up by time, and what no record will ever tell of
//! (held since a kill, passed by declared loss) is what their counters have beyond their records.
//! Where such periods overlap it may count twice: rather too much than too little.
//!
//! What is told holds from before the first request is served: a checkpoint has it then, so that
//! a kill right afterwards forgets none of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::ensure;
use tollgate_control::Control;
use tollgate_gateway::{Gateway, GatewayHandle};
use tollgate_metering::{Metering, Shipper};
use tollgate_model::{By, Period, Quota, SubscriptionId, Timestamp};
use tollgate_store::{PeriodScope, Store};

use super::calendar::Calendar;
use super::carry::Carrier;

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

/// A quota and its period of this moment.
#[derive(Clone)]
struct Current {
    by: By,
    subscription: SubscriptionId,
    period: Period,
}

/// A quota whose periods were changed within the current one.
struct Mixed {
    current: Period,
    /// Starts of the other periods that reach into it.
    starts: BTreeSet<Timestamp>,
}

/// Seeds every quota of which something was used in its current period.
///
/// # Errors
/// When the store cannot be read, or no checkpoint can be written.
pub async fn quotas(gateway: &Gateway, from: &Sources<'_>) -> anyhow::Result<()> {
    let handle = gateway.handle();
    let now = handle.latest_wall();
    // Then nothing says how long the periods were that the store has sums of.
    let unknown = handle.awaits_quotas();
    // Looked up once for each: the store has a row for each of its periods of a year.
    let mut known: HashMap<PeriodScope, Option<Current>> = HashMap::new();
    let mut mixed: BTreeMap<SubscriptionId, Mixed> = BTreeMap::new();
    let since = now.plus_us(-LONGEST_PERIOD_US);
    for used in from.store.list_period_units(since).await? {
        let found = match known.get(&used.scope) {
            Some(found) => found.clone(),
            None => {
                let found = find_current(&handle, from.control, &used.scope, now)?;
                known.entry(used.scope.clone()).or_insert(found).clone()
            }
        };
        let Some(current) = found else {
            continue;
        };
        let period = current.period;
        if period.start == used.start {
            let id = match &used.scope {
                PeriodScope::Subscription(id) => id.as_str(),
                PeriodScope::Key(id) => id.as_str(),
            };
            handle.seed_quota(current.by, id, period, used.units);
        } else if current.by == By::Subscription
            && (unknown || reaches_into(&handle, &current.subscription, used.start, period))
        {
            let mixed = mixed.entry(current.subscription).or_insert(Mixed {
                current: period,
                starts: BTreeSet::new(),
            });
            mixed.starts.insert(used.start);
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
    mixed: &BTreeMap<SubscriptionId, Mixed>,
    now: Timestamp,
) -> anyhow::Result<()> {
    if mixed.is_empty() {
        return Ok(());
    }
    if let Err(error) = from.shipper.flush().await {
        tracing::warn!(%error, "sums of quotas whose periods were changed lack what is not shipped");
    }
    let to = now.plus_us(1);
    for (id, Mixed { current, starts }) in mixed {
        let sum = from.metering.units_of_subscription(id, current.start, to);
        let mut used = sum.await?;
        for start in starts {
            let found = gateway.find_quota(By::Subscription, id.as_str(), *start);
            let Some(other) = found
                .filter(|other| other.ends_at > current.start && other.used < Quota::UNITS_LARGEST)
            else {
                continue;
            };
            let to = to.min(other.ends_at);
            let recorded = from.metering.units_of_subscription(id, *start, to).await?;
            used = used.saturating_add(other.used.saturating_sub(recorded));
        }
        gateway.carry_quota(By::Subscription, id.as_str(), *current, used);
    }
    Ok(())
}

/// Whose quota it is, and its period of this moment; `None` where there is no such quota any more.
fn find_current(
    gateway: &GatewayHandle,
    control: &Control,
    scope: &PeriodScope,
    now: Timestamp,
) -> anyhow::Result<Option<Current>> {
    let (by, subscription, own) = match scope {
        PeriodScope::Subscription(id) => (By::Subscription, id.clone(), None),
        PeriodScope::Key(family) => match gateway.find_own_quota(family) {
            Some((id, quota)) => (By::Key, id, Some(quota)),
            None => return Ok(None),
        },
    };
    let catalog = control.catalog();
    let found = catalog.subscriptions.get(&subscription);
    let Some(calendar) = found.and_then(|found| Calendar::of(&catalog, found)) else {
        return Ok(None);
    };
    let calendar = match own {
        Some(quota) => calendar.every(quota.every),
        None => calendar,
    };
    Ok(Some(Current {
        by,
        subscription,
        period: calendar.at(now)?,
    }))
}
