//! Copies of whole shards, and giving grants back.

use std::sync::atomic::Ordering;

use tollgate_model::{Now, Sequence, ShardSnapshot, Timestamp};

use crate::memory::MemoryCounters;

impl MemoryCounters {
    /// Copies one shard under its lock; `None` for a shard that does not exist. `positions` is
    /// called under the lock as well: for each journal thread, the first sequence not yet given
    /// out. Whatever was settled or granted before the copy thus lies before these positions.
    ///
    /// A counter that nobody charged since the snapshot before, and that has nothing in flight,
    /// gives back what of its grant is unused: a kill costs idle callers nothing.
    pub fn snapshot_shard(
        &self,
        shard: u16,
        now: Now,
        positions: &mut dyn FnMut() -> Vec<Sequence>,
    ) -> Option<ShardSnapshot> {
        let mut held = self.shards.get(shard)?.lock();
        let at = held.clamp(now.ticks);
        held.round += 1;
        let round = held.round;
        let before = std::mem::replace(&mut held.snapshot_at, at);
        let mut counters = Vec::with_capacity(held.len());
        for (id, counter) in held.counters() {
            counter.advance(at);
            if counter.requests == 0 && counter.charged_at < before {
                counter.granted = counter.reserved;
            }
            counters.push(counter.state(id));
        }
        Some(ShardSnapshot {
            shard,
            round,
            at,
            positions: positions(),
            lost_at: self.lost_at(),
            closed_before: Timestamp(self.closed_before.load(Ordering::Acquire)),
            counters,
        })
    }

    /// Gives every unused grant back, before the last snapshots of a clean stop: the next start
    /// then knows every unit. Reservations afterwards raise marks of their own.
    pub fn return_grants(&self) {
        for shard in self.shards.iter() {
            for (_, counter) in shard.lock().counters() {
                counter.granted = counter.reserved;
            }
        }
    }
}
