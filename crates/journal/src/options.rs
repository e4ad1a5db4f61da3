//! Where and how the journal is kept.

use std::path::PathBuf;

use tollgate_model::{Sequence, StreamId};

use crate::JournalError;

/// What an answer waits for before its last byte leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// The record is in the kernel: killing the process loses nothing acknowledged.
    #[default]
    Fast,
    /// The record is on disk: a power cut loses nothing acknowledged either.
    Durable,
}

/// Smallest segment, in bytes.
const SEGMENT_BYTES_MIN: u64 = 16 * 1024;
/// Longest node name, in bytes: it stands in every segment's header.
pub(crate) const NODE_BYTES_MAX: usize = 128;

/// Where and how the journal is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalOptions {
    /// Its folder; made when it is missing.
    pub dir: PathBuf,
    /// What acknowledged means.
    pub sync: SyncMode,
    /// Length of a segment, in bytes; one more than is in use is allocated beforehand.
    pub segment_bytes: u64,
    /// Most bytes of segments and checkpoints together; when reached, shipped segments go first,
    /// then `reserve` refuses. What has its room already may take `unsynced_bytes_max` and two
    /// segments more, when a disk that failed has to be written anew.
    pub disk_bytes_max: u64,
    /// Most bytes a stream may have written and not yet synced (kept in memory too, so that a
    /// failed sync can be made good); when reached, `reserve` refuses.
    pub unsynced_bytes_max: u64,
    /// How long shipped segments are kept, in microseconds.
    pub keep_us: u64,
    /// How often a sync starts, in microseconds; in `Durable` also whenever one is waited for.
    pub sync_every_us: u64,
    /// How far the platform says that it has taken in each stream: a folder that knows less is not
    /// the one that was used last. `None` where nobody asked.
    pub platform_marks: Option<Vec<(StreamId, Sequence)>>,
}

impl JournalOptions {
    /// The defaults, in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            sync: SyncMode::Fast,
            segment_bytes: 16 << 20,
            disk_bytes_max: 4 << 30,
            unsynced_bytes_max: 32 << 20,
            keep_us: 24 * 3_600 * 1_000_000,
            sync_every_us: 50_000,
            platform_marks: None,
        }
    }

    /// Most bytes above `disk_bytes_max` that writing anew may take.
    pub(crate) fn repair_bytes_max(&self) -> u64 {
        let segments = self.segment_bytes.saturating_mul(2);
        self.unsynced_bytes_max.saturating_add(segments)
    }

    pub(crate) fn check(&self, threads: u16) -> Result<(), JournalError> {
        let needed = self
            .segment_bytes
            .saturating_mul(2)
            .saturating_mul(u64::from(threads));
        let problem = if threads == 0 {
            Some("a journal needs at least one thread".to_owned())
        } else if self.segment_bytes < SEGMENT_BYTES_MIN || self.segment_bytes > 1 << 30 {
            Some(format!(
                "a segment is {SEGMENT_BYTES_MIN} bytes to 1 GiB long, not {}",
                self.segment_bytes
            ))
        } else if self.disk_bytes_max < needed {
            Some(format!(
                "disk_max is {} bytes, but {threads} threads need {needed} (two segments each)",
                self.disk_bytes_max
            ))
        } else if self.sync_every_us == 0 {
            Some("syncs need an interval above zero".to_owned())
        } else {
            None
        };
        problem.map_or(Ok(()), |what| Err(JournalError::Options(what)))
    }
}
