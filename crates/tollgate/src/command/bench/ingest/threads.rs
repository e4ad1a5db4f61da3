//! What the kernel tells of this process's threads: which one worked, and which one waited for a
//! processor that others used.

use std::fs;

/// Name of the thread that writes the store.
const WRITER: &str = "store-writer";

/// Time of the thread that writes the store, in microseconds; 0 where the kernel does not tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriterTime {
    /// It ran.
    pub worked_us: u64,
    /// It could have run, but no processor was free.
    pub queued_us: u64,
}

impl WriterTime {
    /// Since the thread began.
    pub fn now() -> Self {
        let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
        let writer = threads.flatten().map(|thread| thread.path()).find(|path| {
            fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim_end() == WRITER)
        });
        // Time run, time waited to run (both in nanoseconds), number of runs.
        let told = writer.and_then(|path| fs::read_to_string(path.join("schedstat")).ok());
        let told = told.unwrap_or_default();
        let mut us = told
            .split_whitespace()
            .map_while(|ns| ns.parse::<u64>().ok())
            .map(|ns| ns / 1_000);
        Self {
            worked_us: us.next().unwrap_or(0),
            queued_us: us.next().unwrap_or(0),
        }
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            worked_us: self.worked_us.saturating_sub(before.worked_us),
            queued_us: self.queued_us.saturating_sub(before.queued_us),
        }
    }
}
