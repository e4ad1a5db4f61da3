//! Pages of records.
//!
//! A question walks one index of each day's partition, newest or oldest day first, and stops at the
//! end of the page. A rare condition over a long span may walk long; the statement's timeout ends
//! it, and nobody else waits for it.

use deadpool_postgres::Client;
use tokio_postgres::types::ToSql;
use tollgate_model::{
    ApiId, EventId, KeyId, OrganizationId, Outcome, PlanId, SubscriptionId, Timestamp,
};
use tollgate_store::{Page, RecordCursor, RecordOrder, RecordQuery, UsageRecord};

use super::record_rows;
use crate::columns::{Columns, stored};
use crate::failure::Worked;
use crate::sql;

/// Which index to walk.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Path {
    Time,
    Id(String),
    Subscription(String),
    /// There is nothing to find.
    Nowhere,
}

impl Path {
    /// The most selective index that the conditions allow.
    async fn find(client: &Client, query: &RecordQuery) -> Worked<Self> {
        if let Some(id) = &query.id {
            return Ok(Self::Id(id.as_str().to_owned()));
        }
        match (&query.subscription, &query.key) {
            (Some(subscription), _) => Ok(Self::Subscription(subscription.as_str().to_owned())),
            (None, Some(key)) => Self::find_for_key(client, key).await,
            (None, None) => Ok(Self::Time),
        }
    }

    /// A key's records are found among its subscription's.
    async fn find_for_key(client: &Client, key: &KeyId) -> Worked<Self> {
        let find = client
            .prepare_cached(sql::usage::FIND_SUBSCRIPTIONS_OF_KEY)
            .await?;
        let rows = client.query(&find, &[&key.as_str()]).await?;
        Ok(match rows.as_slice() {
            [] => Self::Nowhere,
            [one] => match Columns::of(one).text()? {
                "" => Self::Time,
                subscription => Self::Subscription(subscription.to_owned()),
            },
            _ => Self::Time,
        })
    }

    /// The index by subscription holds a number made of the text. The text itself is compared in a
    /// form whose share of records the server takes for a half, not for the same as the number's
    /// once more: it would expect nearly nothing, and sort all of them instead of walking in order.
    fn condition(&self) -> &'static str {
        match self {
            Self::Time => "",
            Self::Id(_) => "AND r.id = $5",
            Self::Subscription(_) => {
                "AND hashtextextended(r.subscription, 0) = hashtextextended($5, 0) \
                 AND coalesce(r.subscription = $5, FALSE)"
            }
            Self::Nowhere => "AND FALSE",
        }
    }

    /// The condition's parameter.
    fn value(&self) -> Option<&str> {
        match self {
            Self::Id(id) | Self::Subscription(id) => Some(id),
            Self::Time | Self::Nowhere => None,
        }
    }

    /// What the list is ordered by first. Few records share an id: they are found and sorted, and
    /// the server is kept from walking all others in order until it meets them.
    fn first_order(&self) -> &'static str {
        match self {
            Self::Id(_) => "r.at + 0",
            _ => "r.at",
        }
    }

    fn fill_in(&self, text: &str, order: RecordOrder) -> String {
        let direction = match order {
            RecordOrder::NewestFirst => "DESC",
            RecordOrder::OldestFirst => "ASC",
        };
        text.replace("/*path*/", self.condition())
            .replace(
                "r.at /*direction*/",
                &format!("{} {direction}", self.first_order()),
            )
            .replace("/*direction*/", direction)
    }
}

/// The part of the list that is asked for; both ends are outside.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: RecordCursor,
    high: RecordCursor,
}

impl Bounds {
    fn of(query: &RecordQuery, cursor: Option<RecordCursor>) -> Self {
        // Places begin at 1, so place 0 of an instant lies before all its records.
        let before = |at: Timestamp| RecordCursor { at, place: 0 };
        let mut bounds = Self {
            low: before(query.from),
            high: before(query.to),
        };
        match (cursor, query.order) {
            (Some(last), RecordOrder::NewestFirst) => bounds.high = bounds.high.min(last),
            (Some(last), RecordOrder::OldestFirst) => bounds.low = bounds.low.max(last),
            (None, _) => {}
        }
        bounds
    }
}

pub(super) async fn list(
    client: &Client,
    query: &RecordQuery,
    cursor: Option<RecordCursor>,
) -> Worked<Page<UsageRecord>> {
    let path = Path::find(client, query).await?;
    let wanted = query.records_max() as usize;
    let mut found = read(client, query, &path, Bounds::of(query, cursor)).await?;
    let more = found.len() > wanted;
    found.truncate(wanted);
    let last = found.last().map(|(place, _)| place.to_string());
    Ok(Page {
        next_cursor: last.filter(|_| more),
        items: found.into_iter().map(|(_, record)| record).collect(),
    })
}

async fn read(
    client: &Client,
    query: &RecordQuery,
    path: &Path,
    bounds: Bounds,
) -> Worked<Vec<(RecordCursor, UsageRecord)>> {
    let text = path.fill_in(sql::usage::LIST_RECORDS, query.order);
    let list = client.prepare_cached(&text).await?;
    // Not once more where the path asks for it.
    let asked = query.subscription.as_ref().map(SubscriptionId::as_str);
    let subscription = asked.filter(|_| !matches!(path, Path::Subscription(_)));
    let parameters: [&(dyn ToSql + Sync); 18] = [
        &bounds.low.at.0,
        &bounds.low.place,
        &bounds.high.at.0,
        &bounds.high.place,
        &path.value(),
        // One more than asked for tells whether there is a next page.
        &(i64::from(query.records_max()) + 1),
        &query.id.as_ref().map(EventId::as_str),
        &query.key.as_ref().map(KeyId::as_str),
        &subscription,
        &query.organization.as_ref().map(OrganizationId::as_str),
        &query.api.as_ref().map(ApiId::as_str),
        &query.route,
        &query.plan.as_ref().map(PlanId::as_str),
        &query.status.map(i32::from),
        &query.outcome.map(Outcome::as_str),
        &query.address,
        &query.latency_us_min.map(stored),
        &query.test,
    ];
    let rows = client.query(&list, &parameters).await?;
    rows.iter().map(record_rows::read).collect()
}

#[cfg(test)]
mod tests {
    use tollgate_model::UsageEvent;
    use tollgate_store::UsageStore;
    use tollgate_store::testing::{after, batch, event, stream};

    use super::*;
    use crate::testing::Database;

    /// Three days of records of some subscriptions, and statistics on them.
    async fn filled() -> Database {
        let database = Database::make().await;
        let store = database.open().await;
        let events = (0..6_000u32).map(|n| UsageEvent {
            at: after(i64::from(n) * 40),
            subscription: Some(SubscriptionId::new(&format!("s-{}", n % 3))),
            ..event(n)
        });
        let taken = batch(stream(0), 0, events.collect());
        store.ingest(taken).await.unwrap();
        let client = database.connect().await;
        client.batch_execute("ANALYZE").await.unwrap();
        database
    }

    #[tokio::test]
    async fn every_way_of_asking_walks_its_own_index_and_scans_no_records() {
        let database = filled().await;
        let client = database.connect().await;
        // Sorting so few would be cheaper than walking: what counts is that an index can do it.
        let walk = "SET enable_sort = off; SET enable_bitmapscan = off";
        client.batch_execute(walk).await.unwrap();
        let none: Option<&str> = None;
        for (path, index) in [
            (Path::Time, "_at_idx"),
            (
                Path::Id(event(77).id.as_str().to_owned()),
                "_id_at_stream_sequence_idx",
            ),
            (
                Path::Subscription("s-1".to_owned()),
                "_hashtextextended_at_n_idx",
            ),
        ] {
            for order in [RecordOrder::NewestFirst, RecordOrder::OldestFirst] {
                let text = path.fill_in(sql::usage::LIST_RECORDS, order);
                let explain = client.prepare(&format!("EXPLAIN {text}")).await.unwrap();
                let (number, place) = (None::<i64>, 0i64);
                let parameters: [&(dyn ToSql + Sync); 18] = [
                    &after(-1_000).0,
                    &place,
                    // The last day that has records; the empty one behind it has no pages to walk.
                    &after(239_000).0,
                    &place,
                    &path.value(),
                    &51i64,
                    &none,
                    &none,
                    &none,
                    &none,
                    &none,
                    &none,
                    &none,
                    &None::<i32>,
                    &none,
                    &none,
                    &number,
                    &None::<bool>,
                ];
                let rows = client.query(&explain, &parameters).await.unwrap();
                let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                let plan = lines.join("\n");
                assert!(plan.contains(index), "{path:?} {order:?}:\n{plan}");
                assert!(
                    !plan.contains("Seq Scan on usage_records"),
                    "{path:?}:\n{plan}"
                );
                let whole_sort = lines.iter().any(|line| line.contains("->  Sort "));
                assert!(
                    !whole_sort || matches!(path, Path::Id(_)),
                    "{path:?}:\n{plan}"
                );
            }
        }
    }
}
