//! Brings a file's schema up to date.
//!
//! Migrations are numbered files, each applied in one transaction and remembered with its SHA-256.
//! A file that a newer version migrated, or that holds other migrations than ours, is refused.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use sha2::{Digest, Sha256};

use crate::failure::{Failure, Worked};
use crate::sql;

/// One step of the schema; its number is its place, from 1.
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
pub(crate) fn migrate(connection: &mut Connection) -> Worked<()> {
    migrate_to(connection, MIGRATIONS)
}

fn migrate_to(connection: &mut Connection, known: &[Migration]) -> Worked<()> {
    loop {
        // The lock is taken before looking, so that two processes do not apply the same step.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql::schema::CREATE_MIGRATIONS)?;
        let applied = check_applied(&transaction, known)?;
        let Some(next) = known.get(applied) else {
            return Ok(transaction.commit()?);
        };
        transaction.execute_batch(next.text)?;
        let number = i64::try_from(applied + 1).unwrap_or(i64::MAX);
        transaction.execute(
            sql::schema::ADD_MIGRATION,
            (number, next.name, sha256(next.text)),
        )?;
        transaction.commit()?;
        tracing::info!(number, name = next.name, "migrated the store");
    }
}

/// How many of the known steps were applied.
fn check_applied(transaction: &Transaction<'_>, known: &[Migration]) -> Worked<usize> {
    let mut statement = transaction.prepare(sql::schema::LIST_MIGRATIONS)?;
    let applied = statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(u32, String)>, _>>()?;
    for ((place, (number, hash)), expected) in applied.iter().enumerate().zip(1u32..) {
        let Some(ours) = known.get(place) else {
            return Err(Failure::Unfit(format!(
                "a newer version of Tollgate has migrated this database to schema {}; this one \
                 knows schemas up to {}",
                applied.len(),
                known.len()
            )));
        };
        if *number != expected || *hash != sha256(ours.text) {
            return Err(Failure::Unfit(format!(
                "migration {number} of this database is not this version's"
            )));
        }
    }
    Ok(applied.len())
}

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use tollgate_store::{Entity, StoreErrorKind};

    use super::*;

    const FIRST: Migration = Migration {
        name: "first",
        text: "CREATE TABLE one (x)",
    };
    const SECOND: Migration = Migration {
        name: "second",
        text: "CREATE TABLE two (x)",
    };
    const BROKEN: Migration = Migration {
        name: "broken",
        text: "CREATE TABLE three (x); CREATE TABLE one (x)",
    };

    fn tables(connection: &Connection) -> Vec<String> {
        connection
            .prepare("SELECT name FROM sqlite_schema WHERE length(name) < 6 ORDER BY name")
            .unwrap()
            .query_map((), |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }

    fn refusal(result: Worked<()>) -> String {
        let error = result.unwrap_err().about(Entity::Database);
        assert_eq!(error.kind, StoreErrorKind::Corrupt);
        error.to_string()
    }

    #[test]
    fn missing_steps_are_applied_once_and_in_order() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, &[FIRST]).unwrap();
        migrate_to(&mut connection, &[FIRST, SECOND]).unwrap();
        migrate_to(&mut connection, &[FIRST, SECOND]).unwrap();
        assert_eq!(tables(&connection), ["one", "two"]);
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_of_itself() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(migrate_to(&mut connection, &[FIRST, BROKEN]).is_err());
        assert_eq!(tables(&connection), ["one"]);
        migrate_to(&mut connection, &[FIRST, SECOND]).unwrap();
    }

    #[test]
    fn a_newer_schema_is_refused_with_both_numbers() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, &[FIRST, SECOND]).unwrap();
        let why = refusal(migrate_to(&mut connection, &[FIRST]));
        assert!(
            why.contains("to schema 2") && why.contains("up to 1"),
            "{why}"
        );
    }

    #[test]
    fn a_step_that_was_changed_after_it_was_applied_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate_to(&mut connection, &[FIRST]).unwrap();
        let changed = Migration {
            text: "CREATE TABLE one (x, y)",
            ..FIRST
        };
        let why = refusal(migrate_to(&mut connection, &[changed]));
        assert!(why.contains("migration 1"), "{why}");
    }
}
