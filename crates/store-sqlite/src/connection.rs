//! Connections and how they are set up.
//!
//! The writer never checkpoints on its own: that would make single commits slow.

use std::path::Path;
use std::time::Duration;

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
         PRAGMA cache_size = -32768;",
    )?;
    Ok(connection)
}

/// A connection that cannot write.
pub(crate) fn open_reader(path: &Path, options: &Options) -> Worked<Connection> {
    let connection = open(path, u64::from(options.busy_timeout_ms))?;
    connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -8192;")?;
    Ok(connection)
}

/// The connection that checkpoints.
pub(crate) fn open_checkpointer(path: &Path) -> Worked<Connection> {
    open(path, CHECKPOINT_WAIT_MS)
}

fn open(path: &Path, busy_timeout_ms: u64) -> Worked<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_millis(busy_timeout_ms))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}
