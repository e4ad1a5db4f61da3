//! Guarantees of [`UsageStore::list_records`](crate::UsageStore::list_records).

use std::sync::Arc;

use tollgate_model::{
    ApiId, EventId, KeyId, OrganizationId, Outcome, PlanId, SubscriptionId, UsageEvent,
};

use super::{Checked, refusal};
use crate::testing::{after, bare_event, batch, event, stream};
use crate::{RecordOrder, RecordQuery, Store, StoreErrorKind, StoreResult};

fn everything() -> RecordQuery {
    RecordQuery {
        order: RecordOrder::OldestFirst,
        limit: 1_000,
        ..RecordQuery::in_span(after(-1_000), after(1_000))
    }
}

async fn ids(store: &dyn Store, query: &RecordQuery) -> StoreResult<Vec<EventId>> {
    let page = store.list_records(query).await?;
    Ok(page.items.into_iter().map(|r| r.event.id).collect())
}

fn named(id: &str, at: i64) -> UsageEvent {
    UsageEvent {
        id: EventId::Outside(Arc::from(id)),
        at: after(at),
        ..event(0)
    }
}

fn outside(ids: &[&str]) -> Vec<EventId> {
    ids.iter()
        .map(|id| EventId::Outside(Arc::from(*id)))
        .collect()
}

/// Both orders are each other's reverse.
pub async fn records_are_ordered_by_admission_then_arrival(store: &dyn Store) -> Checked {
    let first = vec![named("c", 5), named("e", 7), named("a", 1)];
    let second = vec![named("d", 5), named("b", 3)];
    store.ingest(batch(stream(0), 0, first)).await?;
    store.ingest(batch(stream(1), 0, second)).await?;
    let mut expected = outside(&["a", "b", "c", "d", "e"]);
    assert_eq!(ids(store, &everything()).await?, expected);
    expected.reverse();
    let newest = RecordQuery::in_span(after(0), after(100));
    assert_eq!(ids(store, &newest).await?, expected);
    Ok(())
}

/// Whatever the page's size, the order and the condition, also among records of one instant.
pub async fn pages_follow_each_other_without_loss_or_repeat(store: &dyn Store) -> Checked {
    let sent: Vec<UsageEvent> = (0..40u32)
        .map(|n| UsageEvent {
            at: after(i64::from(n / 7)),
            key: Some(KeyId::made(u128::from(n % 2))),
            ..event(n)
        })
        .collect();
    store.ingest(batch(stream(0), 0, sent)).await?;
    for order in [RecordOrder::NewestFirst, RecordOrder::OldestFirst] {
        for key in [None, Some(KeyId::made(1))] {
            let whole = RecordQuery {
                order,
                key,
                ..everything()
            };
            let expected = ids(store, &whole).await?;
            assert_eq!(expected.len(), if whole.key.is_some() { 20 } else { 40 });
            for limit in [1, 3, 20, 39, 40] {
                let mut page = RecordQuery {
                    limit,
                    ..whole.clone()
                };
                let mut seen = Vec::new();
                loop {
                    let found = store.list_records(&page).await?;
                    assert!(found.items.len() <= limit as usize);
                    seen.extend(found.items.into_iter().map(|r| r.event.id));
                    page.cursor = found.next_cursor;
                    if page.cursor.is_none() {
                        break;
                    }
                }
                assert_eq!(seen, expected, "{order:?} by {limit}");
            }
        }
    }
    Ok(())
}

/// `from` is inside, `to` is not.
pub async fn the_span_is_half_open(store: &dyn Store) -> Checked {
    let sent = vec![named("a", 1), named("b", 2), named("c", 3)];
    store.ingest(batch(stream(0), 0, sent)).await?;
    for (from, to, expected) in [
        (1, 3, outside(&["a", "b"])),
        (2, 3, outside(&["b"])),
        (3, 3, Vec::new()),
        (3, 1, Vec::new()),
    ] {
        for order in [RecordOrder::NewestFirst, RecordOrder::OldestFirst] {
            let query = RecordQuery {
                order,
                ..RecordQuery::in_span(after(from), after(to))
            };
            let mut found = ids(store, &query).await?;
            if order == RecordOrder::NewestFirst {
                found.reverse();
            }
            assert_eq!(found, expected);
        }
    }
    Ok(())
}

type Condition = (&'static str, fn(&mut RecordQuery, &UsageEvent));

const CONDITIONS: [Condition; 12] = [
    ("id", |query, odd| query.id = Some(odd.id.clone())),
    ("key", |query, odd| query.key = odd.key.clone()),
    ("subscription", |query, odd| {
        query.subscription = odd.subscription.clone();
    }),
    ("organization", |query, odd| {
        query.organization = odd.organization.clone();
    }),
    ("api", |query, odd| query.api = Some(odd.api.clone())),
    ("route", |query, odd| {
        query.route = Some(odd.route.to_string())
    }),
    ("plan", |query, odd| query.plan = odd.plan.clone()),
    ("status", |query, odd| query.status = Some(odd.status)),
    ("outcome", |query, odd| query.outcome = Some(odd.outcome)),
    ("address", |query, odd| {
        query.address = odd.address.map(|address| address.to_string());
    }),
    ("latency", |query, odd| {
        query.latency_us_min = Some(odd.latency_us);
    }),
    ("test", |query, odd| query.test = Some(odd.test)),
];

/// One odd event among usual ones, found by each field.
pub async fn every_condition_filters(store: &dyn Store) -> Checked {
    let odd = UsageEvent {
        key: Some(KeyId::new("key_odd")),
        subscription: Some(SubscriptionId::new("odd")),
        organization: Some(OrganizationId::new("odd-org")),
        api: ApiId::new("odd-api"),
        route: Arc::from("/odd"),
        plan: Some(PlanId::new("odd-plan")),
        status: 502,
        outcome: Outcome::UpstreamError,
        address: "2001:db8::1".parse().ok(),
        latency_us: 70_000_000,
        test: true,
        ..named("odd", 50)
    };
    let mut sent: Vec<UsageEvent> = (0..5).map(event).collect();
    sent.extend([odd.clone(), bare_event(60)]);
    store.ingest(batch(stream(0), 0, sent)).await?;
    for (name, narrow) in CONDITIONS {
        for order in [RecordOrder::NewestFirst, RecordOrder::OldestFirst] {
            let mut query = RecordQuery {
                order,
                ..everything()
            };
            narrow(&mut query, &odd);
            assert_eq!(ids(store, &query).await?, outside(&["odd"]), "{name}");
        }
    }
    let real = RecordQuery {
        test: Some(false),
        ..everything()
    };
    assert_eq!(ids(store, &real).await?.len(), 6);
    Ok(())
}

/// A condition never widens another.
pub async fn conditions_hold_together(store: &dyn Store) -> Checked {
    let sent = (0..8u32).map(|n| UsageEvent {
        status: if n & 1 == 0 { 200 } else { 404 },
        subscription: Some(SubscriptionId::new(if n & 2 == 0 { "a" } else { "b" })),
        key: Some(KeyId::new(if n & 4 == 0 { "key_x" } else { "key_y" })),
        ..event(n)
    });
    store.ingest(batch(stream(0), 0, sent.collect())).await?;
    let query = RecordQuery {
        status: Some(404),
        subscription: Some(SubscriptionId::new("b")),
        key: Some(KeyId::new("key_x")),
        ..everything()
    };
    assert_eq!(ids(store, &query).await?, [event(3).id]);
    let wrong_id = RecordQuery {
        id: Some(event(1).id),
        ..query
    };
    assert_eq!(ids(store, &wrong_id).await?, []);
    Ok(())
}

/// Not read as the first page.
pub async fn a_strange_cursor_is_refused(store: &dyn Store) -> Checked {
    let query = RecordQuery {
        cursor: Some("strange".to_owned()),
        ..everything()
    };
    let refused = store.list_records(&query).await;
    assert_eq!(refusal(&refused), Some(StoreErrorKind::NotFound));
    Ok(())
}
