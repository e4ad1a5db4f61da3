//! The PostgreSQL adapter: SQL, rows, migrations, nothing else.
//!
//! **Owns** three lanes of connections to one database: questions, commands, and the one that takes
//! in events; the schema, with a partition of records for each day.
//!
//! **Invariants.** One port method is one transaction, or one statement. Its isolation stands where
//! it is run: commands run `READ COMMITTED` and lock first what they decide on (the catalog's row,
//! a call's row, the writer's row), so that every statement after the lock sees what was kept
//! before it, and nothing has to be tried again; answers that are made of several statements run
//! `REPEATABLE READ`, read only. A caller that goes away undoes what it asked for, or does not:
//! whole in either case. Waiting is bounded everywhere (connecting, connections, locks, statements,
//! answers), and what is too much is refused: `Unavailable`. Connections recover by themselves
//! (module `lane`).
//!
//! **Does not own** rules, times or ids: it keeps what it is given. Several processes may use one
//! database: they take in events one after the other.

mod calls;
mod catalog;
mod columns;
mod copy;
mod days;
mod failure;
mod key_rows;
mod keys;
mod lane;
mod migrate;
mod options;
mod scratch;
mod settings;
mod sql;
mod target;
#[cfg(test)]
mod testing;
mod tokens;
mod usage;

use deadpool_postgres::{Client, Transaction};
use futures_util::future::BoxFuture;
use tokio_postgres::IsolationLevel;
use tollgate_store::{Entity, StoreError, StoreErrorKind, StoreResult};

pub use options::Options;
pub use scratch::Scratch;

use failure::Worked;
use lane::{Lane, Purpose};
use target::Target;
use usage::Intake;

/// Batches worth offering to [`tollgate_store::UsageStore::ingest_some`] at once. Twice as many as
/// suit SQLite: commands have connections of their own and wait for no run, and with many keys a
/// larger one writes each bucket less often (a third to a half more events a second were measured).
pub const BATCHES_AT_ONCE: usize = 20;

/// For commands: locks first what they decide on.
const COMMAND: IsolationLevel = IsolationLevel::ReadCommitted;
/// For answers made of several statements.
const SNAPSHOT: IsolationLevel = IsolationLevel::RepeatableRead;

/// A store in one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    reads: Lane,
    commands: Lane,
    intake: Intake,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date. The URL is as PostgreSQL's own
    /// (`postgres://user:password@host:port/database?...`); `sslmode` is `require` or `disable`.
    ///
    /// # Errors
    /// `Unavailable` when the database cannot be reached, does not let the user in or is not there;
    /// `Corrupt` when it was migrated by a newer version of Tollgate, or by other migrations than
    /// ours. The text says what to do and never holds the password.
    pub async fn open(url: &str, options: &Options) -> StoreResult<Self> {
        let about = |failure: failure::Failure| failure.about(Entity::Database);
        let target = Target::read(url, options).map_err(about)?;
        let reads = Purpose {
            connections_max: options.readers_max,
            waiting_max: options.reads_max,
            // Which conditions a question has decides on its plan.
            settings: "-c plan_cache_mode=force_custom_plan",
        };
        let commands = Purpose {
            connections_max: options.writers_max,
            waiting_max: options.commands_max,
            settings: "",
        };
        let commands = Lane::new(&target, options, &commands).map_err(about)?;
        migrate::migrate(&commands).await.map_err(|failure| {
            let kind = failure.kind();
            if kind == StoreErrorKind::Corrupt {
                return failure.about(Entity::Database);
            }
            let why = failure::cannot_connect(&failure, &target.to_string());
            StoreError::caused(kind, Entity::Database, why)
        })?;
        Ok(Self {
            reads: Lane::new(&target, options, &reads).map_err(about)?,
            intake: Intake::new(&target, options).map_err(about)?,
            commands,
        })
    }

    /// Reads a URL without connecting; what errors and findings call its database, without the
    /// password.
    ///
    /// # Errors
    /// What is wrong with it, without the password.
    pub fn check_url(url: &str) -> Result<String, String> {
        match Target::read(url, &Options::default()) {
            Ok(target) => Ok(target.to_string()),
            Err(failure) => Err(failure.in_words()),
        }
    }

    /// Runs `work` in a transaction and answers once it is on disk.
    async fn write<T, F>(&self, entity: Entity, work: F) -> StoreResult<T>
    where
        F: for<'t> Fn(&'t Transaction<'_>) -> BoxFuture<'t, Worked<T>> + Send + Sync,
        T: Send,
    {
        let done = self.commands.transact(COMMAND, work).await;
        done.map_err(|failure| failure.about(entity))
    }

    /// Runs a question of one statement.
    async fn read<T, F>(&self, entity: Entity, work: F) -> StoreResult<T>
    where
        F: for<'c> Fn(&'c Client) -> BoxFuture<'c, Worked<T>> + Send + Sync,
        T: Send,
    {
        let done = self.reads.read(work).await;
        done.map_err(|failure| failure.about(entity))
    }

    /// Runs a question of several statements, which see the same.
    async fn read_together<T, F>(&self, entity: Entity, work: F) -> StoreResult<T>
    where
        F: for<'t> Fn(&'t Transaction<'_>) -> BoxFuture<'t, Worked<T>> + Send + Sync,
        T: Send,
    {
        let done = self.reads.transact(SNAPSHOT, work).await;
        done.map_err(|failure| failure.about(entity))
    }
}
