//! Usage: taking in, and the questions.

mod buckets;
mod hot;
mod ingest;
mod ledger;
mod record_rows;
mod records;

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};
use tollgate_model::{Family, KeyId, NodeId, SubscriptionId, Timestamp, UsageBucket};
use tollgate_store::{
    BucketQuery, Entity, HighWaterMark, IngestBatch, LedgerTotals, Page, PeriodScope, PeriodUnits,
    RecordQuery, StoreResult, UsageRecord, UsageStore,
};

use crate::columns::{Columns, first_count};
use crate::failure::{Failure, Worked};
use crate::queue::Lane;
use crate::{SqliteStore, sql};

pub(crate) use hot::HotBuckets;

/// A scope as stored: its kind and its id.
fn scope_columns(scope: &PeriodScope) -> (&'static str, &str) {
    match scope {
        PeriodScope::Subscription(id) => ("subscription", id.as_str()),
        PeriodScope::Key(id) => ("key", id.as_str()),
    }
}

fn read_period(row: &rusqlite::Row<'_>) -> Worked<PeriodUnits> {
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
impl UsageStore for SqliteStore {
    async fn ingest_some(&self, batches: Vec<Arc<IngestBatch>>) -> StoreResult<usize> {
        let writes = Arc::clone(&self.writes);
        let taken = self
            .run(Lane::Batch, Entity::Usage, move |writer| {
                // Commands go before batches, also before those that lie behind the first.
                ingest::take_in(writer, &batches, &|| writes.has_commands())
            })
            .await?;
        fail::fail_point!("ingest-committed", |how| Err(how
            .map_or_else(|| std::process::abort(), |_| Failure::Stopped)
            .about(Entity::Usage)));
        Ok(taken)
    }

    async fn high_water_marks(&self, node: &NodeId) -> StoreResult<Vec<HighWaterMark>> {
        let node = node.clone();
        self.read(Entity::Usage, move |connection, _| {
            ledger::list_marks(connection, Some(&node))
        })
        .await
    }

    async fn all_high_water_marks(&self) -> StoreResult<Vec<HighWaterMark>> {
        self.read(Entity::Usage, |connection, _| {
            ledger::list_marks(connection, None)
        })
        .await
    }

    async fn list_buckets(&self, query: &BucketQuery) -> StoreResult<Vec<UsageBucket>> {
        let query = query.clone();
        self.read(Entity::Usage, move |connection, gone| {
            buckets::list(connection, &query, gone)
        })
        .await
    }

    async fn list_records(&self, query: &RecordQuery) -> StoreResult<Page<UsageRecord>> {
        let cursor = query.find_cursor()?;
        let query = query.clone();
        self.read(Entity::Usage, move |connection, gone| {
            records::list(connection, &query, cursor, gone)
        })
        .await
    }

    async fn period_units(&self, scope: &PeriodScope, start: Timestamp) -> StoreResult<u64> {
        let scope = scope.clone();
        self.read(Entity::Usage, move |connection, _| {
            let (kind, id) = scope_columns(&scope);
            let mut statement = connection.prepare_cached(sql::usage::PERIOD_UNITS)?;
            let units = statement.query_row((kind, id, start.0), first_count);
            Ok(units.optional()?.unwrap_or(0))
        })
        .await
    }

    async fn list_period_units(&self, from: Timestamp) -> StoreResult<Vec<PeriodUnits>> {
        self.read(Entity::Usage, move |connection, _| {
            let mut statement = connection.prepare_cached(sql::usage::LIST_PERIOD_UNITS)?;
            statement.query_and_then((from.0,), read_period)?.collect()
        })
        .await
    }

    async fn total_units(&self, scope: &PeriodScope) -> StoreResult<u64> {
        let scope = scope.clone();
        self.read(Entity::Usage, move |connection, _| {
            let mut statement = connection.prepare_cached(sql::usage::TOTAL_UNITS)?;
            let units = statement.query_row(scope_columns(&scope), first_count);
            Ok(units.optional()?.unwrap_or(0))
        })
        .await
    }

    async fn ledger_totals(&self) -> StoreResult<(LedgerTotals, Vec<HighWaterMark>)> {
        self.read(Entity::Usage, ledger::sum).await
    }

    async fn drop_minute_buckets(&self, before: Timestamp) -> StoreResult<u64> {
        self.run(Lane::Batch, Entity::Usage, move |writer| {
            writer.transact_with_buckets(|transaction, hot| {
                hot.forget();
                let mut drop_sums = transaction.prepare_cached(sql::usage::DROP_MINUTE_SUMS)?;
                let mut drop = transaction.prepare_cached(sql::usage::DROP_MINUTE_BUCKETS)?;
                let mut dropped = 0;
                for family in Family::ALL {
                    drop_sums.execute(params![family.as_str(), before.0])?;
                    dropped += drop.execute(params![family.as_str(), before.0])?;
                }
                Ok(dropped as u64)
            })
        })
        .await
    }
}
