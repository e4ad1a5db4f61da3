//! Units that count though no event of their counter's period accounts for them, and what others
//! know of a quota: they are held apart from what is settled, so that the ledger stays provable.

use tollgate_model::{Charge, CounterId, CounterKind, Now, Timestamp};

use crate::counter::Body;
use crate::memory::MemoryCounters;
use crate::reservation::{Charges, Reservation};

/// What is counted on a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaUse {
    /// Units used, those in flight among them.
    pub used: u64,
    /// Units of requests in flight.
    pub in_flight: u64,
    /// When its period ends.
    pub ends_at: Timestamp,
}

impl MemoryCounters {
    /// Ends a request of which no record will tell: as [`Self::settle`], but what it keeps is
    /// held, because nothing settled may lack its record.
    pub fn settle_unrecorded(&self, reservation: Reservation, kept_windows: u64, kept_quotas: u64) {
        let charges: Charges = reservation.charges().collect();
        let mut locked = self
            .shards
            .lock(charges.iter().map(|charge| charge.counter));
        for mut charge in charges {
            let kept = match charge.kind {
                CounterKind::Window(_) => kept_windows,
                CounterKind::Quota { .. } => kept_quotas,
            };
            charge.kept = kept.min(charge.reserved);
            if let Some(counter) = locked.counter(charge.counter) {
                counter.settle(&charge);
                counter.settled = counter.settled.saturating_sub(charge.kept);
                counter.held = counter.held.saturating_add(charge.kept);
            }
        }
    }

    /// Ends a request of an earlier life whose record is being written now: its units were held
    /// since this one began, and are settled. `assign` as in [`Self::settle`].
    pub fn settle_held(&self, charges: &[Charge], assign: &mut dyn FnMut()) {
        let mut locked = self.shards.lock(charges.iter().map(|c| c.counter));
        for charge in charges {
            if let Some(counter) = locked.counter(charge.counter) {
                counter.held = counter.held.saturating_sub(charge.reserved);
                counter.settled = counter.settled.saturating_add(charge.kept);
            }
        }
        assign();
    }

    /// Takes over what the platform knows was used of a quota in its period; never lowers what is
    /// counted here.
    pub fn seed_quota(&self, counter: CounterId, kind: CounterKind, used: u64, now: Now) {
        let mut locked = self.shards.lock(std::iter::once(counter));
        let at = locked.clamp(now.ticks);
        let make = || self.blank(kind, at);
        let shard = locked.shard(counter);
        if let Some(held) = shard.and_then(|s| s.find_or_make(counter, make)) {
            held.prolong(kind);
            // What the platform knows of was recorded: it is no longer held on suspicion.
            let known = used.saturating_sub(held.in_flight);
            let more = known.saturating_sub(held.settled);
            held.settled = held.settled.saturating_add(more);
            held.held = held.held.saturating_sub(more);
        }
    }

    /// Sees to it that at least `used` units count on a quota, those that its own events account
    /// for and those in flight among them: what others of the same period account for was counted
    /// elsewhere, under periods of another length. Never lowers what is counted here.
    pub fn carry_quota(&self, counter: CounterId, kind: CounterKind, used: u64, now: Now) {
        let mut locked = self.shards.lock(std::iter::once(counter));
        let at = locked.clamp(now.ticks);
        let make = || self.blank(kind, at);
        let shard = locked.shard(counter);
        if let Some(quota) = shard.and_then(|s| s.find_or_make(counter, make)) {
            quota.prolong(kind);
            let known = used.saturating_sub(quota.in_flight);
            quota.held = quota.held.max(known.saturating_sub(quota.settled));
        }
    }

    /// What is counted on a quota, if it is known here.
    #[must_use]
    pub fn find_quota(&self, counter: CounterId) -> Option<QuotaUse> {
        let mut locked = self.shards.lock(std::iter::once(counter));
        let quota = locked.counter(counter)?;
        let Body::Quota { ends_at } = quota.body else {
            return None;
        };
        Some(QuotaUse {
            used: quota.spent(),
            in_flight: quota.in_flight,
            ends_at,
        })
    }
}
