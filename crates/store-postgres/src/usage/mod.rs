//! Usage: taking in, and the questions.

mod buckets;
mod hot;
mod ingest;
mod intake;
mod ledger;
mod record_rows;
mod records;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::Row;
use tollgate_model::{KeyId, NodeId, SubscriptionId, Timestamp, UsageBucket};
use tollgate_store::{
    BucketQuery, Entity, HighWaterMark, IngestBatch, LedgerTotals, Page, PeriodScope, PeriodUnits,
    RecordQuery, StoreResult, UsageRecord, UsageStore,
};

use crate::columns::{Columns, first_count};
use crate::failure::{Failure, Worked};
use crate::{PostgresStore, SNAPSHOT, sql};

pub(crate) use intake::Intake;

/// A scope as stored: its kind and its id.
fn scope_columns(scope: &PeriodScope) -> (&'static str, &str) {
    match scope {
        PeriodScope::Subscription(id) => ("subscription", id.as_str()),
        PeriodScope::Key(id) => ("key", id.as_str()),
    }
}

fn read_period(row: &Row) -> Worked<PeriodUnits> {
    let mut columns = Columns::of(row);
    let (scope, id) = (columns.text()?, columns.text()?);
    Ok(PeriodUnits {
        scope: match scope {
            "subscription" => PeriodScope::Subscription(SubscriptionId::new(id)),
            "key" => PeriodScope::Key(KeyId::new(id)),
            _ => return Err(Failure::Unreadable("scope")),
        },
        start: columns.time()?,
        units: columns.number()?,
    })
}

#[async_trait]
impl UsageStore for PostgresStore {
    async fn ingest_some(&self, batches: Vec<Arc<IngestBatch>>) -> StoreResult<usize> {
        let taken = self.intake.take_in(&batches).await;
        let taken = taken.map_err(|failure| failure.about(Entity::Usage))?;
        fail::fail_point!("ingest-committed", |how| Err(how
            .map_or_else(|| std::process::abort(), |_| Failure::Silent)
            .about(Entity::Usage)));
        Ok(taken)
    }

    async fn high_water_marks(&self, node: &NodeId) -> StoreResult<Vec<HighWaterMark>> {
        let node = node.clone();
        self.read(Entity::Usage, move |client| {
            let node = node.clone();
            Box::pin(async move { ledger::list_marks(client, Some(&node)).await })
        })
        .await
    }

    async fn all_high_water_marks(&self) -> StoreResult<Vec<HighWaterMark>> {
        self.read(Entity::Usage, |client| {
            Box::pin(async move { ledger::list_marks(client, None).await })
        })
        .await
    }

    async fn list_buckets(&self, query: &BucketQuery) -> StoreResult<Vec<UsageBucket>> {
        let query = Arc::new(query.clone());
        self.read(Entity::Usage, move |client| {
            let query = Arc::clone(&query);
            Box::pin(async move { buckets::list(client, &query).await })
        })
        .await
    }

    async fn list_records(&self, query: &RecordQuery) -> StoreResult<Page<UsageRecord>> {
        let cursor = query.find_cursor()?;
        let query = Arc::new(query.clone());
        self.read(Entity::Usage, move |client| {
            let query = Arc::clone(&query);
            Box::pin(async move { records::list(client, &query, cursor).await })
        })
        .await
    }

    async fn period_units(&self, scope: &PeriodScope, start: Timestamp) -> StoreResult<u64> {
        let scope = scope.clone();
        self.read(Entity::Usage, move |client| {
            let scope = scope.clone();
            Box::pin(async move {
                let (kind, id) = scope_columns(&scope);
                let find = client.prepare_cached(sql::usage::PERIOD_UNITS).await?;
                let row = client.query_opt(&find, &[&kind, &id, &start.0]).await?;
                row.as_ref().map_or(Ok(0), first_count)
            })
        })
        .await
    }

    async fn list_period_units(&self, from: Timestamp) -> StoreResult<Vec<PeriodUnits>> {
        self.read(Entity::Usage, move |client| {
            Box::pin(async move {
                let list = client.prepare_cached(sql::usage::LIST_PERIOD_UNITS).await?;
                let rows = client.query(&list, &[&from.0]).await?;
                rows.iter().map(read_period).collect()
            })
        })
        .await
    }

    async fn total_units(&self, scope: &PeriodScope) -> StoreResult<u64> {
        let scope = scope.clone();
        self.read(Entity::Usage, move |client| {
            let scope = scope.clone();
            Box::pin(async move {
                let (kind, id) = scope_columns(&scope);
                let find = client.prepare_cached(sql::usage::TOTAL_UNITS).await?;
                let row = client.query_opt(&find, &[&kind, &id]).await?;
                row.as_ref().map_or(Ok(0), first_count)
            })
        })
        .await
    }

    async fn ledger_totals(&self) -> StoreResult<(LedgerTotals, Vec<HighWaterMark>)> {
        let sum = self
            .reads
            .transact_within(SNAPSHOT, ledger::SUM_TIMEOUT, |transaction| {
                Box::pin(async move { ledger::sum(transaction).await })
            });
        sum.await.map_err(|failure| failure.about(Entity::Usage))
    }

    async fn drop_minute_buckets(&self, before: Timestamp) -> StoreResult<u64> {
        let dropped = self.intake.drop_minute_buckets(before).await;
        dropped.map_err(|failure| failure.about(Entity::Usage))
    }
}
