//! Reading buckets.

use rusqlite::{Connection, Row, params};
use tollgate_model::{
    ApiId, BucketKey, Counts, LatencySketch, OrganizationId, PlanId, SubscriptionId, UsageBucket,
};
use tollgate_store::{BucketQuery, Gathered, StoreErrorKind};

use crate::Gone;
use crate::columns::Columns;
use crate::failure::{Failure, Worked};
use crate::sql;

/// Rows between two looks at whether anybody still waits.
const ROWS_BETWEEN_LOOKS: usize = 4_096;

/// The index to walk and its condition: what leaves the fewest buckets.
fn path(query: &BucketQuery) -> (&'static str, &'static str) {
    if query.subscription.is_some() {
        ("usage_buckets_by_subscription", "AND subscription = ?7")
    } else if query.organization.is_some() {
        ("usage_buckets_by_organization", "AND organization = ?6")
    } else if query.dimension.is_some() {
        ("usage_buckets_by_dimension", "AND dimension = ?9")
    } else {
        ("usage_buckets_by_name", "")
    }
}

fn statement_text(query: &BucketQuery) -> String {
    let (index, condition) = path(query);
    // The names of the replacements stand in a comment of the file as well; that does no harm.
    sql::usage::LIST_BUCKETS
        .replace("/*index*/", &format!("INDEXED BY {index}"))
        .replace("/*path*/", condition)
}

pub(super) fn list(
    connection: &Connection,
    query: &BucketQuery,
    gone: Gone<'_>,
) -> Worked<Vec<UsageBucket>> {
    let mut statement = connection.prepare_cached(&statement_text(query))?;
    let mut rows = statement.query(params![
        query.grain.as_str(),
        query.family.as_str(),
        query.from.0,
        query.to.0,
        query.api.as_ref().map(ApiId::as_str),
        query.organization.as_ref().map(OrganizationId::as_str),
        query.subscription.as_ref().map(SubscriptionId::as_str),
        query.plan.as_ref().map(PlanId::as_str),
        query.dimension,
        query.include_test,
    ])?;
    let mut out = Gathered::new(query.merge_starts);
    let mut read = 0;
    while let Some(row) = rows.next()? {
        out.add(read_bucket(row, query)?);
        read += 1;
        if read % ROWS_BETWEEN_LOOKS == 0 && gone() {
            return Err(Failure::Refused(
                StoreErrorKind::Unavailable,
                "nobody waits for the answer any more",
            ));
        }
    }
    Ok(out.into_buckets())
}

fn read_bucket(row: &Row<'_>, query: &BucketQuery) -> Worked<UsageBucket> {
    let mut columns = Columns::of(row);
    // What a bucket does not have is stored as ''.
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let key = BucketKey {
        family: query.family,
        grain: query.grain,
        start: columns.time()?,
        api: ApiId::new(columns.text()?),
        organization: some(columns.text()?).map(|id| OrganizationId::new(&id)),
        subscription: some(columns.text()?).map(|id| SubscriptionId::new(&id)),
        plan: columns.text()?.to_owned(),
        dimension: columns.text()?.to_owned(),
        test: columns.get()?,
    };
    Ok(UsageBucket {
        key,
        counts: read_counts(&mut columns)?,
        latency: read_latency(&mut columns)?,
    })
}

/// The sums of a bucket, in the order of their columns.
pub(super) fn read_counts(columns: &mut Columns<'_>) -> Worked<Counts> {
    Ok(Counts {
        requests: columns.number()?,
        units: columns.number()?,
        denied: columns.number()?,
        errors: columns.number()?,
        client_errors: columns.number()?,
        server_errors: columns.number()?,
        bytes_in: columns.number()?,
        bytes_out: columns.number()?,
        latencies: columns.number()?,
        latency_sum_us: columns.number()?,
        latency_max_us: columns.number()?,
    })
}

/// The latencies of a bucket.
pub(super) fn read_latency(columns: &mut Columns<'_>) -> Worked<Option<LatencySketch>> {
    match columns.optional_bytes()? {
        None => Ok(None),
        Some(bytes) => LatencySketch::from_bytes(bytes)
            .map(Some)
            .ok_or(Failure::Unreadable("latencies")),
    }
}

#[cfg(test)]
mod tests {
    use tollgate_model::{Family, Grain, Timestamp};

    use super::*;

    #[test]
    fn every_condition_walks_its_own_index() {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::migrate::migrate(&mut connection).unwrap();
        let all = BucketQuery {
            family: Family::Route,
            grain: Grain::Hour,
            from: Timestamp(0),
            to: Timestamp(1),
            api: None,
            organization: None,
            subscription: None,
            plan: None,
            dimension: None,
            include_test: true,
            merge_starts: false,
        };
        let (mut organization, mut subscription) = (all.clone(), all.clone());
        organization.organization = Some(OrganizationId::new("a"));
        subscription.subscription = Some(SubscriptionId::new("a"));
        let mut dimension = all.clone();
        dimension.dimension = Some("a".to_owned());
        for (query, index) in [
            (all, "by_name (grain=? AND family=? AND start>?"),
            (
                organization,
                "by_organization (organization=? AND grain=? AND family=? AND start>?",
            ),
            (
                subscription,
                "by_subscription (subscription=? AND grain=? AND family=? AND start>?",
            ),
            (
                dimension,
                "by_dimension (dimension=? AND grain=? AND family=? AND start>?",
            ),
        ] {
            let text = format!("EXPLAIN QUERY PLAN {}", statement_text(&query));
            let mut statement = connection.prepare(&text).unwrap();
            let parameters = vec![rusqlite::types::Null; statement.parameter_count()];
            let plan: Vec<String> = statement
                .query_map(rusqlite::params_from_iter(parameters), |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert!(plan.join("; ").contains(index), "{plan:?}");
        }
    }
}
