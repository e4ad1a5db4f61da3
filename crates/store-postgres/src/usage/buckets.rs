//! Reading buckets.

use std::pin::pin;

use deadpool_postgres::Client;
use futures_util::TryStreamExt;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tollgate_model::{
    ApiId, BucketKey, Counts, LatencySketch, OrganizationId, PlanId, SubscriptionId, UsageBucket,
};
use tollgate_store::{BucketQuery, Gathered};

use crate::columns::Columns;
use crate::failure::{Failure, Worked};
use crate::sql;

pub(super) async fn list(client: &Client, query: &BucketQuery) -> Worked<Vec<UsageBucket>> {
    let list = client.prepare_cached(sql::usage::LIST_BUCKETS).await?;
    let (grain, family) = (query.grain.as_str(), query.family.as_str());
    let api = query.api.as_ref().map(ApiId::as_str);
    let organization = query.organization.as_ref().map(OrganizationId::as_str);
    let subscription = query.subscription.as_ref().map(SubscriptionId::as_str);
    let plan = query.plan.as_ref().map(PlanId::as_str);
    let parameters: [&(dyn ToSql + Sync); 10] = [
        &grain,
        &family,
        &query.from.0,
        &query.to.0,
        &api,
        &organization,
        &subscription,
        &plan,
        &query.dimension,
        &query.include_test,
    ];
    // Row by row: where starts are merged, few of many are held.
    let rows = client.query_raw(&list, parameters.iter().copied()).await?;
    let mut rows = pin!(rows);
    let mut out = Gathered::new(query.merge_starts);
    while let Some(row) = rows.try_next().await? {
        out.add(read_bucket(&row, query)?);
    }
    Ok(out.into_buckets())
}

fn read_bucket(row: &Row, query: &BucketQuery) -> Worked<UsageBucket> {
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
        test: columns.flag()?,
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
