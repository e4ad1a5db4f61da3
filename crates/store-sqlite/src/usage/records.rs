//! Pages of records.
//!
//! A question walks one index in slices: first the slice's end is found on the index alone, then
//! its records are read and filtered. Each is a read transaction of its own, so a rare condition
//! over a long span holds none of them for long; records are only ever appended, so nothing that
//! was walked can change.

use rusqlite::{Connection, OptionalExtension, params};
use tollgate_model::{
    ApiId, EventId, KeyId, OrganizationId, Outcome, PlanId, SubscriptionId, Timestamp,
};
use tollgate_store::{Page, RecordCursor, RecordOrder, RecordQuery, StoreErrorKind, UsageRecord};

use super::record_rows;
use crate::Gone;
use crate::columns::stored;
use crate::failure::{Failure, Worked};
use crate::sql;

/// Records of the first slice: enough for a page where most records match.
const SLICE_FIRST: u32 = 1_000;
/// Records of the largest slice: some tens of milliseconds.
const SLICE_LARGEST: u32 = 50_000;

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
    fn find(connection: &Connection, query: &RecordQuery) -> Worked<Self> {
        if let Some(id) = &query.id {
            return Ok(Self::Id(id.as_str().to_owned()));
        }
        match (&query.subscription, &query.key) {
            (Some(subscription), _) => Ok(Self::Subscription(subscription.as_str().to_owned())),
            (None, Some(key)) => Self::find_for_key(connection, key),
            (None, None) => Ok(Self::Time),
        }
    }

    /// A key's records are found among its subscription's.
    fn find_for_key(connection: &Connection, key: &KeyId) -> Worked<Self> {
        let mut statement = connection.prepare_cached(sql::usage::FIND_SUBSCRIPTIONS_OF_KEY)?;
        let subscriptions = statement
            .query_map((key.as_str(),), |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        Ok(match subscriptions.as_slice() {
            [] => Self::Nowhere,
            [one] if !one.is_empty() => Self::Subscription(one.clone()),
            _ => Self::Time,
        })
    }

    fn condition(&self) -> &'static str {
        match self {
            Self::Time => "",
            Self::Id(_) => "AND r.id = ?5",
            Self::Subscription(_) => "AND r.subscription = ?5",
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

    fn fill_in(&self, text: &str, order: RecordOrder) -> String {
        let direction = match order {
            RecordOrder::NewestFirst => "DESC",
            RecordOrder::OldestFirst => "ASC",
        };
        text.replace("/*path*/", self.condition())
            .replace("/*direction*/", direction)
    }
}

/// The part of the list that is still to be walked; both ends are outside.
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

    /// What lies before `end` in the order of the list, and what is left from it on.
    fn split(self, end: RecordCursor, order: RecordOrder) -> (Self, Self) {
        let (mut head, mut tail) = (self, self);
        match order {
            RecordOrder::NewestFirst => {
                head.low = end;
                tail.high.at = end.at;
                tail.high.place = end.place + 1;
            }
            RecordOrder::OldestFirst => {
                head.high = end;
                tail.low.at = end.at;
                tail.low.place = end.place - 1;
            }
        }
        (head, tail)
    }
}

pub(super) fn list(
    connection: &Connection,
    query: &RecordQuery,
    cursor: Option<RecordCursor>,
    gone: Gone<'_>,
) -> Worked<Page<UsageRecord>> {
    let walk = Walk::new(connection, query)?;
    let wanted = query.records_max();
    let mut found = Vec::new();
    // One more than asked for tells whether there is a next page.
    let left = |found: &Vec<_>| wanted + 1 - u32::try_from(found.len()).unwrap_or(wanted);
    let mut rest = Bounds::of(query, cursor);
    let mut slice = SLICE_FIRST.max(wanted + 1);
    while found.len() <= wanted as usize {
        let Some(end) = walk.find_slice_end(rest, slice)? else {
            walk.read(rest, left(&found), &mut found)?;
            break;
        };
        let (head, tail) = rest.split(end, query.order);
        walk.read(head, left(&found), &mut found)?;
        rest = tail;
        slice = SLICE_LARGEST.min(slice * 4);
        if gone() {
            return Err(Failure::Refused(
                StoreErrorKind::Unavailable,
                "nobody waits for the answer any more",
            ));
        }
    }
    let more = found.len() > wanted as usize;
    found.truncate(wanted as usize);
    let last = found.last().map(|(place, _)| place.to_string());
    Ok(Page {
        next_cursor: last.filter(|_| more),
        items: found.into_iter().map(|(_, record)| record).collect(),
    })
}

/// A question and its statements.
struct Walk<'a> {
    connection: &'a Connection,
    query: &'a RecordQuery,
    path: Path,
    records_text: String,
    slice_text: String,
}

impl<'a> Walk<'a> {
    fn new(connection: &'a Connection, query: &'a RecordQuery) -> Worked<Self> {
        let path = Path::find(connection, query)?;
        Ok(Self {
            connection,
            query,
            records_text: path.fill_in(sql::usage::LIST_RECORDS, query.order),
            slice_text: path.fill_in(sql::usage::FIND_SLICE_END, query.order),
            path,
        })
    }

    /// The first record beyond a slice; `None` when the slice holds all that is left.
    fn find_slice_end(&self, bounds: Bounds, slice: u32) -> Worked<Option<RecordCursor>> {
        let mut statement = self.connection.prepare_cached(&self.slice_text)?;
        let end = statement.query_row(
            params![
                bounds.low.at.0,
                bounds.low.place,
                bounds.high.at.0,
                bounds.high.place,
                self.path.value(),
                slice,
            ],
            |row| {
                Ok(RecordCursor {
                    at: Timestamp(row.get(0)?),
                    place: row.get(1)?,
                })
            },
        );
        Ok(end.optional()?)
    }

    /// Reads what matches inside the bounds.
    fn read(
        &self,
        bounds: Bounds,
        limit: u32,
        found: &mut Vec<(RecordCursor, UsageRecord)>,
    ) -> Worked<()> {
        let mut statement = self.connection.prepare_cached(&self.records_text)?;
        let query = self.query;
        let mut rows = statement.query(params![
            bounds.low.at.0,
            bounds.low.place,
            bounds.high.at.0,
            bounds.high.place,
            self.path.value(),
            limit,
            query.id.as_ref().map(EventId::as_str),
            query.key.as_ref().map(KeyId::as_str),
            query.subscription.as_ref().map(SubscriptionId::as_str),
            query.organization.as_ref().map(OrganizationId::as_str),
            query.api.as_ref().map(ApiId::as_str),
            query.route,
            query.plan.as_ref().map(PlanId::as_str),
            query.status,
            query.outcome.map(Outcome::as_str),
            query.address,
            query.latency_us_min.map(stored),
            query.test,
        ])?;
        while let Some(row) = rows.next()? {
            found.push(record_rows::read(row)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(connection: &Connection, text: &str) -> String {
        let mut statement = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {text}"))
            .unwrap();
        let parameters = vec![rusqlite::types::Null; statement.parameter_count()];
        statement
            .query_map(rusqlite::params_from_iter(parameters), |row| row.get(3))
            .unwrap()
            .collect::<Result<Vec<String>, _>>()
            .unwrap()
            .join("; ")
    }

    #[test]
    fn every_way_of_asking_walks_its_own_index_and_sorts_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::migrate::migrate(&mut connection).unwrap();
        let some = String::new;
        for (path, index) in [
            (Path::Time, "usage_records_by_at (at>? AND at<?)"),
            (Path::Id(some()), "usage_records_by_id (id=?"),
            (
                Path::Subscription(some()),
                "usage_records_by_subscription (subscription=? AND at>? AND at<?)",
            ),
        ] {
            for order in [RecordOrder::NewestFirst, RecordOrder::OldestFirst] {
                for text in [sql::usage::LIST_RECORDS, sql::usage::FIND_SLICE_END] {
                    let plan = plan(&connection, &path.fill_in(text, order));
                    assert!(plan.contains(index), "{plan}");
                    // Few records share an id; those may be sorted.
                    let sorts = plan.contains("TEMP B-TREE");
                    assert!(!sorts || matches!(path, Path::Id(_)), "{plan}");
                }
                let text = path.fill_in(sql::usage::FIND_SLICE_END, order);
                let reads_records = !plan(&connection, &text).contains("COVERING");
                assert!(!reads_records || matches!(path, Path::Id(_)));
            }
        }
    }
}
