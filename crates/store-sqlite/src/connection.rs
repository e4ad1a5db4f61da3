//! Connections and how they are set up.
//!
//! The writer never checkpoints on its own: that would make single commits slow.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::failure::{Failure, Worked};
use crate::options::Options;

/// Statements that a connection keeps prepared: more than there are query files and variants.
const STATEMENTS_KEPT: usize = 128;
/// Longest wait of the checkpointer for readers to let go of the log, in milliseconds. While it
/// waits the writer waits too, so this is short; the next checkpoint tries again.
const CHECKPOINT_WAIT_MS: u64 = 20;

/// The connection that writes.
pub(crate) fn open_writer(path: &Path, options: &Options) -> Worked<Connection> {
    let connection = open(path, u64::from(options.busy_timeout_ms))?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", (), |row| row.get(0))?;
    if mode != "wal" {
        return Err(Failure::Unfit(format!(
            "the file system cannot hold a write-ahead log (journal mode {mode})"
        )));
    }
    connection.execute_batch(
        "PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 134217728;
         PRAGMA cache_size = -65536;",
    )?;
    Ok(connection)
}

/// A connection that cannot write.
pub(crate) fn open_reader(path: &Path, options: &Options) -> Worked<Connection> {
    let connection = open(path, u64::from(options.busy_timeout_ms))?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -8192;")?;
    Ok(connection)
}

/// What copies the log into the database.
pub(crate) struct Checkpointer {
    connection: Connection,
    /// Never closed: closing any descriptor of a file drops all locks that the process holds on it
    /// (POSIX), those of every connection too. Locks end with the process.
    file: ManuallyDrop<File>,
}

impl Checkpointer {
    pub(crate) fn open(path: &Path) -> Worked<Self> {
        Ok(Self {
            connection: open(path, CHECKPOINT_WAIT_MS)?,
            file: ManuallyDrop::new(File::open(path).map_err(Failure::File)?),
        })
    }

    /// Copies the log into the database, and lets the log begin anew instead of growing.
    ///
    /// Most of it happens while writing goes on: pages are copied and brought to disk, twice, as
    /// copying takes a while and the log grows meanwhile. Then the writer waits for the little that
    /// is left. Where a reader still needs the log, that step does nothing and the next call tries
    /// again.
    pub(crate) fn checkpoint(&self) -> Worked<()> {
        let run = |text: &str| self.connection.query_row(text, (), |_| Ok(()));
        for _ in 0..2 {
            run("PRAGMA wal_checkpoint(PASSIVE)")?;
            // SQLite would do this with the writer locked out.
            self.file.sync_data().map_err(Failure::File)?;
        }
        Ok(run("PRAGMA wal_checkpoint(RESTART)")?)
    }
}

fn open(path: &Path, busy_timeout_ms: u64) -> Worked<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_millis(busy_timeout_ms))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // Plans follow from the statements alone. Otherwise SQLite prepares a statement anew whenever
    // a parameter changes that its conditions compare with: for every bucket that is looked for.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}
