//! What can be set about the adapter.

/// Bounds of the adapter. The defaults suit one process on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Reading connections, each with a thread; at least 1.
    pub readers: usize,
    /// Most commands that wait for the writer; beyond that they are refused.
    pub commands_max: usize,
    /// Most ingest batches that wait for the writer; beyond that they are refused.
    pub batches_max: usize,
    /// Most questions that wait for a reader; beyond that they are refused.
    pub reads_max: usize,
    /// Longest wait for a lock that another process holds, in milliseconds.
    pub busy_timeout_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readers: 2,
            commands_max: 256,
            batches_max: 32,
            reads_max: 256,
            busy_timeout_ms: 5_000,
        }
    }
}
