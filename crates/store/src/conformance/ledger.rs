//! Guarantees of periods and of the ledger's totals.

use tollgate_model::{KeyId, Outcome, SubscriptionId, UsageEvent};

use super::Checked;
use crate::testing::{BEGIN, after, bare_event, batch, event, full_event, stream};
use crate::{OutcomeTotals, PeriodScope, PeriodUnits, Store};

fn acme() -> PeriodScope {
    PeriodScope::Subscription(SubscriptionId::new("acme-widgets"))
}

fn family() -> PeriodScope {
    PeriodScope::Key(KeyId::made(1))
}

/// A subscription and a key of the same name have periods of their own.
pub async fn units_of_a_period_add_up_by_scope(store: &dyn Store) -> Checked {
    let with_both = |n, units| UsageEvent {
        units,
        key_period: Some(after(-60)),
        ..event(n)
    };
    let first = vec![with_both(0, 3), with_both(1, 4), event(2)];
    store.ingest(batch(stream(0), 0, first)).await?;
    store
        .ingest(batch(stream(1), 0, vec![with_both(3, 5)]))
        .await?;
    assert_eq!(store.period_units(&acme(), BEGIN).await?, 13);
    assert_eq!(store.period_units(&family(), after(-60)).await?, 12);
    assert_eq!(store.period_units(&family(), BEGIN).await?, 0);
    let namesake = PeriodScope::Key(KeyId::new("acme-widgets"));
    assert_eq!(store.period_units(&namesake, BEGIN).await?, 0);
    Ok(())
}

/// The start itself is inside.
pub async fn periods_are_listed_from_a_start_on(store: &dyn Store) -> Checked {
    let in_period = |n, start| UsageEvent {
        subscription_period: Some(after(start)),
        key_period: Some(after(start + 1)),
        ..event(n)
    };
    let sent = vec![in_period(0, 0), in_period(1, 10), in_period(2, 20)];
    store.ingest(batch(stream(0), 0, sent)).await?;
    let mut found = store.list_period_units(after(10)).await?;
    found.sort_by(|a, b| (&a.scope, a.start).cmp(&(&b.scope, b.start)));
    let period = |scope, start| PeriodUnits {
        scope,
        start: after(start),
        units: 1,
    };
    let expected = [
        period(acme(), 10),
        period(acme(), 20),
        period(family(), 11),
        period(family(), 21),
    ];
    assert_eq!(found, expected);
    Ok(())
}

/// Also of records outside any period; a rotated key's belong to its family.
pub async fn total_units_are_those_of_all_records_ever(store: &dyn Store) -> Checked {
    let rotated = UsageEvent {
        key: Some(KeyId::made(2)),
        units: 10,
        subscription_period: None,
        ..event(1)
    };
    let sent = vec![event(0), rotated, bare_event(2)];
    store.ingest(batch(stream(0), 0, sent)).await?;
    store.ingest(batch(stream(0), 3, vec![event(3)])).await?;
    assert_eq!(store.total_units(&acme()).await?, 12);
    assert_eq!(store.total_units(&family()).await?, 12);
    let rotated = PeriodScope::Key(KeyId::made(2));
    assert_eq!(store.total_units(&rotated).await?, 0);
    Ok(())
}

/// Records by outcome, buckets by hour, and the marks that they belong to.
pub async fn ledger_totals_tell_what_was_taken_in(store: &dyn Store) -> Checked {
    let summary = UsageEvent {
        count: 40,
        ..bare_event(2)
    };
    let failed = UsageEvent {
        outcome: Outcome::UpstreamError,
        units: 0,
        ..event(4_000)
    };
    let first = vec![event(0), event(1), summary];
    store.ingest(batch(stream(0), 0, first)).await?;
    store
        .ingest(batch(stream(1), 0, vec![failed, full_event(5)]))
        .await?;
    let (totals, marks) = store.ledger_totals().await?;
    let mut expected = OutcomeTotals::default();
    for (outcome, units) in [
        (Outcome::Forwarded, 1),
        (Outcome::Forwarded, 1),
        (Outcome::Denied, 0),
        (Outcome::UpstreamError, 0),
        (Outcome::Denied, 12),
    ] {
        expected.add(outcome, units);
    }
    assert_eq!(totals.records, expected);
    let requests = 1 + 1 + 40 + 1 + 250;
    assert_eq!(totals.record_requests, requests);
    assert_eq!(
        (totals.bucket_requests, totals.bucket_units),
        (requests, 14)
    );
    let by_route = (totals.route_bucket_requests, totals.route_bucket_units);
    assert_eq!(by_route, (requests, 14));
    let mut of_marks = OutcomeTotals::default();
    for mark in &marks {
        of_marks.merge(&mark.totals);
    }
    assert_eq!(of_marks, expected);
    assert_eq!(marks, store.all_high_water_marks().await?);
    Ok(())
}
