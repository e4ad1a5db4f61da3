//! The in-memory model: the plainest thing that keeps the ports' promises.

/// To be written.
#[derive(Debug, Default)]
pub struct MemoryStore {}
