//! Bounds of the API.

use std::time::Duration;

/// What a caller may send, and how long a call may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest body in bytes.
    pub body_bytes_max: usize,
    /// Longest time for a call, in milliseconds.
    pub timeout_ms: u64,
    /// Most answers that are kept in memory for `Idempotency-Key`.
    pub replays_max: usize,
    /// Most bytes of answers that are kept in memory for `Idempotency-Key`.
    pub replay_bytes_max: usize,
    /// Most calls with an `Idempotency-Key` that the store remembers, of the last 24 h.
    pub calls_max: u32,
    /// Most bytes of one answer that the store keeps.
    pub answer_bytes_max: usize,
    /// Most bytes of all answers that the store keeps.
    pub answers_bytes_max: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            timeout_ms: 30_000,
            replays_max: 10_000,
            replay_bytes_max: 16 * 1024 * 1024,
            calls_max: 50_000,
            answer_bytes_max: 256 * 1024,
            answers_bytes_max: 256 * 1024 * 1024,
        }
    }
}

impl Options {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}
