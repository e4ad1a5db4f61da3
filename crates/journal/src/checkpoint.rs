//! Checkpoints: the counters at a moment, so that a start need not read the whole journal.
//!
//! Two files are written alternately. A segment may go only when both cover it, so that with one
//! of them damaged the other and the journal after it still say everything.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use prost::Message;
use tollgate_model::{Charge, Now, ShardSnapshot, UsageEvent};

use crate::JournalError;
use crate::shared::{RareMap, Shared, lock};
use crate::wire::CheckpointFile;

/// How often the entries that a checkpoint names are waited for, 10 ms each.
const WAITS_MAX: u32 = 100;

/// The counters of one life of a gateway at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Which life; the `positions` of the shards are of its streams. Set when it is written.
    pub epoch: u64,
    /// From before the first shard was copied; the wall time may be the latest that was seen, where
    /// the clock was set back.
    pub at: Now,
    /// Every shard.
    pub shards: Vec<ShardSnapshot>,
}

impl Checkpoint {
    /// What the file says; `None` where it says nothing to this version.
    pub(crate) fn read(file: &mut CheckpointFile) -> Option<Self> {
        Some(Self {
            epoch: file.epoch,
            at: file.at(),
            shards: file.read_shards().ok()?,
        })
    }
}

/// An exchange that was going on when the gateway died.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfinished {
    /// Its last progress entry, with outcome `interrupted`, to be appended as it is.
    pub event: UsageEvent,
    /// Kept as reserved.
    pub charges: Vec<Charge>,
}

/// Payloads of progress entries that have no final event yet, by the event's id.
pub(crate) type OpenProgress = RareMap<Vec<u8>>;

/// How far a checkpoint on disk reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cover {
    pub epoch: u64,
    pub positions: Vec<u64>,
}

impl Cover {
    pub(crate) fn of(file: &CheckpointFile) -> Self {
        Self {
            epoch: file.epoch,
            positions: file.positions.clone(),
        }
    }

    /// First sequence of a stream that is not in the checkpoint.
    pub(crate) fn reaches(&self, epoch: u64, thread: u16) -> u64 {
        match epoch.cmp(&self.epoch) {
            std::cmp::Ordering::Less => u64::MAX,
            std::cmp::Ordering::Equal => {
                let position = self.positions.get(usize::from(thread));
                position.copied().unwrap_or(0)
            }
            std::cmp::Ordering::Greater => 0,
        }
    }
}

/// First sequence of a stream that one of two checkpoints might need; 0 while there are not two.
pub(crate) fn covered(covers: &RwLock<Vec<Cover>>, epoch: u64, thread: u16) -> u64 {
    let covers = covers.read().unwrap_or_else(PoisonError::into_inner);
    if covers.len() < 2 {
        return 0;
    }
    let reach = covers.iter().map(|cover| cover.reaches(epoch, thread));
    reach.min().unwrap_or(0)
}

impl Shared {
    /// By thread, the first sequence whose charges are missing in some shard.
    fn positions(&self, shards: &[ShardSnapshot]) -> Vec<u64> {
        let of_thread = |thread: usize| {
            let in_shards = shards
                .iter()
                .map(|shard| shard.positions.get(thread).map_or(0, |position| position.0));
            in_shards.min()
        };
        self.live
            .iter()
            .enumerate()
            .map(|(thread, live)| of_thread(thread).unwrap_or_else(|| live.stream.written()))
            .collect()
    }

    /// The highest sequence by thread that some shard was copied after.
    fn positions_max(&self, shards: &[ShardSnapshot]) -> Vec<u64> {
        let of_thread = |thread: usize| {
            let in_shards = shards
                .iter()
                .map(|shard| shard.positions.get(thread).map_or(0, |position| position.0));
            in_shards.max().unwrap_or(0)
        };
        (0..self.live.len()).map(of_thread).collect()
    }

    /// Waits until the named entries are on disk. That also bounds what a power cut can have lost
    /// to the time after the checkpoint.
    fn wait_synced(&self, positions: &[u64]) -> Result<(), JournalError> {
        let never = std::sync::Mutex::new(());
        let pause = std::sync::Condvar::new();
        for _ in 0..WAITS_MAX {
            self.round(true);
            let states = self.live.iter().map(|live| *live.state.borrow());
            let mut reached = true;
            for (state, position) in states.zip(positions) {
                if state.failed {
                    return Err(JournalError::NotWritten);
                }
                reached &= state.synced >= *position;
            }
            if reached {
                return Ok(());
            }
            drop(pause.wait_timeout(lock(&never), Duration::from_millis(10)));
        }
        Err(JournalError::NotWritten)
    }

    pub(crate) fn write_checkpoint(
        &self,
        at: Now,
        shards: &[ShardSnapshot],
    ) -> Result<(), JournalError> {
        let mut twin = lock(&self.checkpoints);
        let positions = self.positions(shards);
        self.wait_synced(&self.positions_max(shards))?;
        // Copied only now: whoever ended before the positions has left the map by then.
        let unfinished = self.unfinished.values();
        let file = CheckpointFile::write(self.epoch, at, shards, positions, unfinished);
        twin.store(&*self.fs, &self.options.dir, &file.encode_to_vec())
            .map_err(JournalError::io("write a checkpoint in", &self.options.dir))?;
        self.disk.set_checkpoints(twin.disk_bytes());
        let mut covers = self.covers.write().unwrap_or_else(PoisonError::into_inner);
        covers.insert(0, Cover::of(&file));
        covers.truncate(2);
        drop((covers, twin));
        self.forget_untold();
        self.tell_shipped();
        Ok(())
    }
}
