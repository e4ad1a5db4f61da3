//! Counters that are gone though their periods are live: the next call would begin them at 0.
//!
//! No ledger says how long a period is. But a gateway forgets a counter an hour after its period's
//! end, and says in each checkpoint which ends that is (`closed_before`); and each event, also of a
//! call that was refused, says which period it was admitted in. Hence a period that had an event
//! since the gateway last looked for what may be forgotten was not over then.
//!
//! **Does not own** quotas of keys: finding the last event of each takes too long.

use std::collections::BTreeMap;

use tollgate_model::{SubscriptionId, Timestamp};
use tollgate_store::{PeriodScope, RecordQuery, UsageStore};

use super::advice::Ledgers;
use super::quotas::{Ledger, described};
use super::{CheckpointView, ReconcileLine};
use crate::MeteringResult;

/// How long a counter is kept after its period's end, in microseconds. A gateway whose journal is
/// new learns of live periods only; its first look lies behind that start.
const KEPT_US: i64 = 3_600_000_000;

/// One line for all of them; `missing`: what of the ledger has no counter in the checkpoint, as of
/// its position.
pub(super) async fn line(
    store: &dyn UsageStore,
    checkpoint: &CheckpointView,
    missing: impl Iterator<Item = &Ledger>,
) -> MeteringResult<Option<ReconcileLine>> {
    let closed = checkpoint.shards.iter().map(|shard| shard.closed_before);
    let Some(looked_at) = closed.max().filter(|closed| closed.0 > i64::MIN) else {
        return Ok(None);
    };
    let looked_at = looked_at.plus_us(KEPT_US);
    let mut by_subscription: BTreeMap<&SubscriptionId, Vec<&Ledger>> = BTreeMap::new();
    for ledger in missing.filter(|ledger| ledger.units > 0) {
        if let PeriodScope::Subscription(id) = &ledger.scope {
            by_subscription.entry(id).or_default().push(ledger);
        }
    }
    let mut gone = Vec::new();
    for (id, ledgers) in by_subscription {
        let live = find_live(store, id, looked_at).await?;
        gone.extend(ledgers.into_iter().filter(|l| Some(l.start) == live));
    }
    let Some(first) = gone.first() else {
        return Ok(None);
    };
    let units: i128 = gone.iter().map(|ledger| ledger.units).sum();
    let words = format!(
        "{} quota counters are gone whose periods are live, among them that of {}; the ledger \
         says {units} units of events",
        gone.len(),
        described(&first.scope, first.start)
    );
    let units = u64::try_from(units).unwrap_or(u64::MAX);
    let line = ReconcileLine::compared("quotas: gone", 0, units, words);
    Ok(Some(line.advised(Ledgers::CountersAndEvents)))
}

/// The period of a subscription's last event, where that is of this moment or later.
async fn find_live(
    store: &dyn UsageStore,
    id: &SubscriptionId,
    from: Timestamp,
) -> MeteringResult<Option<Timestamp>> {
    let query = RecordQuery {
        subscription: Some(id.clone()),
        limit: 1,
        ..RecordQuery::in_span(from, Timestamp(i64::MAX))
    };
    let page = store.list_records(&query).await?;
    let last = page.items.first();
    Ok(last.and_then(|record| record.event.subscription_period))
}
