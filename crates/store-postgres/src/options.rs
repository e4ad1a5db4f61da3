//! What can be set about the adapter.

use std::time::Duration;

/// Bounds of the adapter. The defaults suit one process beside a database of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Most connections that answer questions; at least 1.
    pub readers_max: usize,
    /// Most connections that carry out commands; at least 1. One more takes in events.
    pub writers_max: usize,
    /// Most commands that wait for a connection; beyond that they are refused.
    pub commands_max: usize,
    /// Most ingest runs that wait for their connection; beyond that they are refused.
    pub batches_max: usize,
    /// Most questions that wait for a connection; beyond that they are refused.
    pub reads_max: usize,
    /// Longest wait for a connection to be made, in milliseconds.
    pub connect_timeout_ms: u32,
    /// Longest wait for a free connection, in milliseconds.
    pub wait_timeout_ms: u32,
    /// Longest wait for a lock that somebody else holds, in milliseconds.
    pub lock_timeout_ms: u32,
    /// Longest statement, in milliseconds.
    pub statement_timeout_ms: u32,
    /// Longest wait for anything the server was asked, the whole of a transaction included, in
    /// milliseconds: ends what hangs on a server or a network that has gone silent.
    pub answer_timeout_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readers_max: 4,
            writers_max: 3,
            commands_max: 256,
            batches_max: 32,
            reads_max: 256,
            connect_timeout_ms: 5_000,
            wait_timeout_ms: 5_000,
            lock_timeout_ms: 5_000,
            statement_timeout_ms: 30_000,
            answer_timeout_ms: 45_000,
        }
    }
}

/// Milliseconds as a duration.
pub(crate) fn ms(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}
