//! Brings a database's schema up to date.
//!
//! Migrations are numbered files, each applied in one transaction and remembered with its SHA-256,
//! under an advisory lock: two processes that start at once apply each step once. A database that a
//! newer version migrated, or that holds other migrations than ours, is refused.

use std::sync::Arc;

use deadpool_postgres::Transaction;
use sha2::{Digest, Sha256};

use crate::columns::Columns;
use crate::failure::{Failure, Worked};
use crate::lane::Lane;
use crate::{COMMAND, sql};

/// Oldest server that works, as `server_version_num`.
const SERVER_VERSION_MIN: i32 = 140_000;

/// One step of the schema; its number is its place, from 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    name: &'static str,
    text: &'static str,
}

/// Every step, in order. Applied steps never change; what is to change comes as a new one.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "begin",
        text: include_str!("../migrations/0001_begin.sql"),
    },
    Migration {
        name: "calls",
        text: include_str!("../migrations/0002_calls.sql"),
    },
];

/// Applies what is missing. Safe beside another process that does the same.
pub(crate) async fn migrate(lane: &Lane) -> Worked<()> {
    migrate_to(lane, MIGRATIONS).await
}

async fn migrate_to(lane: &Lane, known: &[Migration]) -> Worked<()> {
    let known: Arc<[Migration]> = known.into();
    loop {
        let known = Arc::clone(&known);
        let step = lane.transact(COMMAND, move |transaction| {
            let known = Arc::clone(&known);
            Box::pin(async move { apply_next(transaction, &known).await })
        });
        let Some((number, name)) = step.await? else {
            return Ok(());
        };
        tracing::info!(number, name, "migrated the store");
    }
}

/// Applies the next step, if there is one.
async fn apply_next(
    transaction: &Transaction<'_>,
    known: &[Migration],
) -> Worked<Option<(i32, &'static str)>> {
    let there = check_server(transaction).await?;
    if there && check_applied(transaction, known).await? == known.len() {
        return Ok(None);
    }
    // A step may take long, and so may the wait for another starter.
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '30s'")
        .await?;
    transaction.query(sql::schema::LOCK_MIGRATIONS, &[]).await?;
    transaction
        .batch_execute(sql::schema::CREATE_MIGRATIONS)
        .await?;
    // Looked at again: the other starter may have applied some meanwhile.
    let applied = check_applied(transaction, known).await?;
    let Some(next) = known.get(applied) else {
        return Ok(None);
    };
    transaction.batch_execute(next.text).await?;
    let number = i32::try_from(applied + 1).unwrap_or(i32::MAX);
    transaction
        .execute(
            sql::schema::ADD_MIGRATION,
            &[&number, &next.name, &sha256(next.text)],
        )
        .await?;
    Ok(Some((number, next.name)))
}

/// Whether this server will do, and whether there are migrations.
async fn check_server(transaction: &Transaction<'_>) -> Worked<bool> {
    let row = transaction.query_one(sql::schema::FIND_SERVER, &[]).await?;
    let mut columns = Columns::of(&row);
    let version: i32 = columns.get("server version")?;
    let encoding = columns.text()?;
    if version < SERVER_VERSION_MIN {
        let why = format!(
            "PostgreSQL {} is too old: 14 or newer is needed",
            version / 10_000
        );
        return Err(Failure::Unfit(why));
    }
    if encoding != "UTF8" {
        let why = format!(
            "the database's encoding is {encoding}; make one with CREATE DATABASE ... ENCODING \
             'UTF8' TEMPLATE template0"
        );
        return Err(Failure::Unfit(why));
    }
    columns.flag()
}

/// How many of the known steps were applied.
async fn check_applied(transaction: &Transaction<'_>, known: &[Migration]) -> Worked<usize> {
    let rows = transaction.query(sql::schema::LIST_MIGRATIONS, &[]).await?;
    for ((place, row), expected) in rows.iter().enumerate().zip(1i32..) {
        let mut columns = Columns::of(row);
        let number: i32 = columns.get("migration")?;
        let hash = columns.text()?;
        let Some(ours) = known.get(place) else {
            return Err(Failure::Unfit(format!(
                "a newer version of Tollgate has migrated this database to schema {}; this one \
                 knows schemas up to {}",
                rows.len(),
                known.len()
            )));
        };
        if number != expected || hash != sha256(ours.text) {
            return Err(Failure::Unfit(format!(
                "migration {number} of this database is not this version's"
            )));
        }
    }
    Ok(rows.len())
}

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use tollgate_store::{Entity, StoreErrorKind};

    use super::*;
    use crate::testing::{Database, lane};

    const FIRST: Migration = Migration {
        name: "first",
        text: "CREATE TABLE one (x INTEGER)",
    };
    const SECOND: Migration = Migration {
        name: "second",
        text: "CREATE TABLE two (x INTEGER)",
    };
    const BROKEN: Migration = Migration {
        name: "broken",
        text: "CREATE TABLE three (x INTEGER); CREATE TABLE one (x INTEGER)",
    };

    async fn tables(lane: &Lane) -> Vec<String> {
        let find = "SELECT relname::text FROM pg_class \
                    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace \
                        AND length(relname) < 6 \
                    ORDER BY relname";
        lane.read(move |client| {
            Box::pin(async move {
                let rows = client.query(find, &[]).await?;
                Ok(rows.iter().map(|row| row.get(0)).collect())
            })
        })
        .await
        .unwrap()
    }

    fn refusal(result: Worked<()>) -> String {
        let error = result.unwrap_err().about(Entity::Database);
        assert_eq!(error.kind, StoreErrorKind::Corrupt);
        error.to_string()
    }

    #[tokio::test]
    async fn missing_steps_are_applied_once_and_in_order() {
        let database = Database::make().await;
        let lane = lane(&database);
        migrate_to(&lane, &[FIRST]).await.unwrap();
        migrate_to(&lane, &[FIRST, SECOND]).await.unwrap();
        migrate_to(&lane, &[FIRST, SECOND]).await.unwrap();
        assert_eq!(tables(&lane).await, ["one", "two"]);
    }

    #[tokio::test]
    async fn of_starters_at_one_time_each_step_is_applied_by_one() {
        let database = Database::make().await;
        let lanes: Vec<Lane> = (0..4).map(|_| lane(&database)).collect();
        let starts = lanes.iter().map(migrate);
        for started in futures_util::future::join_all(starts).await {
            started.unwrap();
        }
    }

    #[tokio::test]
    async fn a_step_that_fails_leaves_nothing_of_itself() {
        let database = Database::make().await;
        let lane = lane(&database);
        assert!(migrate_to(&lane, &[FIRST, BROKEN]).await.is_err());
        assert_eq!(tables(&lane).await, ["one"]);
        migrate_to(&lane, &[FIRST, SECOND]).await.unwrap();
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused_with_both_numbers() {
        let database = Database::make().await;
        let lane = lane(&database);
        migrate_to(&lane, &[FIRST, SECOND]).await.unwrap();
        let why = refusal(migrate_to(&lane, &[FIRST]).await);
        assert!(
            why.contains("to schema 2") && why.contains("up to 1"),
            "{why}"
        );
    }

    #[tokio::test]
    async fn a_step_that_was_changed_after_it_was_applied_is_refused() {
        let database = Database::make().await;
        let lane = lane(&database);
        migrate_to(&lane, &[FIRST]).await.unwrap();
        let changed = Migration {
            text: "CREATE TABLE one (x INTEGER, y INTEGER)",
            ..FIRST
        };
        let why = refusal(migrate_to(&lane, &[changed]).await);
        assert!(why.contains("migration 1"), "{why}");
    }
}
