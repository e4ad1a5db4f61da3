//! Bounds of the API.

use std::time::Duration;

/// What a caller may send, and how long a call may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest body in bytes.
    pub body_bytes_max: usize,
    /// Longest time for a call, in milliseconds.
    pub timeout_ms: u64,
    /// Most answers that are kept for `Idempotency-Key`.
    pub replays_max: usize,
    /// Most bytes of answers that are kept for `Idempotency-Key`.
    pub replay_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            timeout_ms: 30_000,
            replays_max: 10_000,
            replay_bytes_max: 16 * 1024 * 1024,
        }
    }
}

impl Options {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}
