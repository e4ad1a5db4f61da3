//! Reserving, settling, reading and evicting.

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use smallvec::SmallVec;
use tollgate_admission::{
    Address, AddressHold, Applicable, Enforcement, Limits, Readings, Verdict, decide, slot_at,
};
use tollgate_model::{Charge, CounterKind, Mark, Now, Quota, RateLimit, Ticks, Timestamp};

use crate::addresses::{ADDRESSES_APART_MAX, Addresses};
use crate::counter::{Body, Counter, QUOTA_KEPT_US};
use crate::grant::{GrantLog, grant_units, needs_mark};
use crate::reservation::{Charges, Denied, Reservation, ReserveError};
use crate::shard::{Locked, Shard, Shards};
use crate::sync::Mutex;

/// How much is held, for metrics and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Counters.
    pub counters: usize,
    /// Charges of reservations that are not settled.
    pub charges_in_flight: u64,
    /// Units counted without a record: on suspicion after a kill, by declared loss, or carried
    /// over from a period of another length. Over all quotas.
    pub held_units: u64,
    /// Units that open grants allow and nobody has taken: what a kill now would cost.
    pub granted_units: u64,
    /// Addresses counted apart.
    pub addresses: usize,
}

/// All counters of one gateway.
#[derive(Debug)]
pub struct MemoryCounters {
    pub(crate) shards: Shards,
    addresses: Addresses,
    /// When counters were lost, or 0: until a span later, windows that are not known are full.
    lost_at: AtomicU64,
    /// Quotas whose periods ended before this have been forgotten: they stay closed.
    pub(crate) closed_before: AtomicI64,
}

impl Default for MemoryCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryCounters {
    /// No counters yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shards: Shards::new(),
            addresses: Addresses::new(ADDRESSES_APART_MAX),
            lost_at: AtomicU64::new(0),
            closed_before: AtomicI64::new(i64::MIN),
        }
    }

    /// Takes `cost` units on every counter that the limits mean, or on none. Everything happens
    /// under the locks of these counters: reading, deciding, writing marks down, charging.
    /// Each counter may stand among the limits once, as compiled limits have it.
    ///
    /// # Errors
    /// [`ReserveError::Denied`] where a limit refuses, [`ReserveError::GrantRefused`] where marks
    /// could not be written down. Nothing was charged then.
    pub fn reserve(
        &self,
        limits: &[Applicable],
        cost: u64,
        now: Now,
        enforcement: Enforcement,
        grants: &mut dyn GrantLog,
    ) -> Result<Reservation, ReserveError> {
        let observed: Limits;
        let limits = if enforcement == Enforcement::Observe {
            observed = limits.iter().map(|l| l.under(enforcement)).collect();
            &observed
        } else {
            limits
        };
        let mut locked = self.shards.lock(limits.iter().map(|limit| limit.counter));
        let scopes = limits.chunk_by(of_one_scope).filter_map(<[_]>::first);
        locked.fetch(scopes.map(|limit| limit.counter));
        let at = locked.clamp(now.ticks);
        let standings = self.standings(&mut locked, limits, at);
        let fit = limits
            .iter()
            .zip(&standings)
            .all(|(l, s)| l.fits(s.counted, cost));
        let (would_deny, charge_windows) = if fit {
            (None, enforcement != Enforcement::Off)
        } else {
            let readings = self.readings(&mut locked, limits, cost, at);
            match decide(limits, &readings, cost, now, enforcement) {
                Verdict::Admit {
                    would_deny,
                    charge_windows,
                } => (would_deny, charge_windows),
                Verdict::Deny(refusal) => {
                    return Err(ReserveError::Denied(Box::new(Denied { refusal, readings })));
                }
            }
        };
        let charged = |limit: &Applicable| charge_windows || limit.is_quota();

        let mut marks: SmallVec<[Mark; 6]> = SmallVec::new();
        for (limit, standing) in limits.iter().zip(&standings) {
            let beyond = standing.reserved.saturating_add(cost) > standing.granted;
            if charged(limit) && beyond && needs_mark(limit) {
                marks.push(standing.raised_mark(limit, cost, at));
            }
        }
        if !marks.is_empty() {
            grants.grant(&marks)?;
        }

        let mut reservation = Reservation {
            charges: Charges::new(),
            readings: Readings::new(),
            would_deny,
            at,
        };
        for scope in limits.chunk_by(of_one_scope) {
            if let Some(shard) = scope.first().and_then(|l| locked.shard(l.counter)) {
                self.charge(shard, scope, cost, &charged, &marks, &mut reservation);
            }
        }
        Ok(reservation)
    }

    /// Ends a request: keeps so many units on windows and on quotas (never more than were
    /// reserved) and gives the rest back. `assign` is called with the final charges while the
    /// counters are locked, to give the event its place in the journal: a snapshot then holds
    /// either both the settlement and the place, or neither.
    pub fn settle(
        &self,
        reservation: Reservation,
        kept_windows: u64,
        kept_quotas: u64,
        assign: &mut dyn FnMut(&[Charge]),
    ) {
        let mut charges = reservation.charges;
        let mut locked = self
            .shards
            .lock(charges.iter().map(|charge| charge.counter));
        for charge in &mut charges {
            let kept = match charge.kind {
                CounterKind::Window(_) => kept_windows,
                CounterKind::Quota { .. } => kept_quotas,
            };
            charge.kept = kept.min(charge.reserved);
        }
        for scope in charges.chunk_by(|a, b| a.counter.scope() == b.counter.scope()) {
            let mut group = scope.first().and_then(|c| locked.group(c.counter));
            for charge in scope {
                if let Some(counter) = group.as_mut().and_then(|g| g.find(charge.counter)) {
                    counter.settle(charge);
                }
            }
        }
        assign(&charges);
    }

    /// Where each limit stands, and when it would admit `cost`. Charges nothing.
    #[must_use]
    pub fn read(&self, limits: &[Applicable], cost: u64, now: Now) -> Readings {
        let mut locked = self.shards.lock(limits.iter().map(|limit| limit.counter));
        let at = locked.clamp(now.ticks);
        self.readings(&mut locked, limits, cost, at)
    }

    /// Says that what was counted before `at` is lost: windows that are not known count as
    /// full until a span has passed. Quotas wait for [`Self::seed_quota`].
    pub fn declare_lost(&self, at: Ticks) {
        self.lost_at.fetch_max(at.0.max(1), Ordering::Release);
    }

    /// The last moment given to [`Self::declare_lost`]; 0 for none.
    pub(crate) fn lost_at(&self) -> Ticks {
        Ticks(self.lost_at.load(Ordering::Acquire))
    }

    /// The scope of a client's address, counted apart while there is room: see
    /// [`ADDRESSES_APART_MAX`].
    #[must_use]
    pub fn scope_of_address(&self, address: IpAddr, hold: AddressHold) -> Address {
        self.addresses.scope(address, hold)
    }

    /// Forgets counters in which nothing counts any more, and how many they were. Due every
    /// minute or so; locks one shard at a time.
    pub fn evict(&self, now: Now) -> usize {
        let horizon = now.wall.plus_us(-QUOTA_KEPT_US).0;
        let before = self.closed_before.fetch_max(horizon, Ordering::AcqRel);
        let wall = Timestamp(before.max(horizon)).plus_us(QUOTA_KEPT_US);
        let mut evicted = 0;
        for shard in self.shards.iter() {
            evicted += evict_shard(shard, now.ticks, wall);
        }
        self.addresses.evict(now, QUOTA_KEPT_US);
        evicted
    }

    /// How much is held. Locks one shard at a time.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            addresses: self.addresses.len(),
            ..Totals::default()
        };
        for shard in self.shards.iter() {
            let mut shard = shard.lock();
            totals.counters += shard.len();
            for (_, counter) in shard.counters() {
                totals.charges_in_flight += u64::from(counter.requests);
                let open = counter.granted.saturating_sub(counter.reserved);
                totals.granted_units = totals.granted_units.saturating_add(open);
                // A forgotten period counts as used up: that is no suspicion.
                if matches!(counter.body, Body::Quota { .. }) && counter.held < Quota::UNITS_LARGEST
                {
                    totals.held_units = totals.held_units.saturating_add(counter.held);
                }
            }
        }
        totals
    }

    fn standings(
        &self,
        locked: &mut Locked<'_>,
        limits: &[Applicable],
        at: Ticks,
    ) -> SmallVec<[Standing; 6]> {
        self.look(locked, limits, at, |counter, _| Standing::of(counter))
    }

    fn readings(
        &self,
        locked: &mut Locked<'_>,
        limits: &[Applicable],
        cost: u64,
        at: Ticks,
    ) -> Readings {
        self.look(locked, limits, at, |counter, limit| {
            counter.reading(limit, cost)
        })
    }

    /// What is to be known of each limit's counter at a moment. Changes nothing that counts.
    fn look<T>(
        &self,
        locked: &mut Locked<'_>,
        limits: &[Applicable],
        at: Ticks,
        see: impl Fn(&Counter, &Applicable) -> T,
    ) -> SmallVec<[T; 6]> {
        let mut seen = SmallVec::new();
        for scope in limits.chunk_by(of_one_scope) {
            let mut group = scope.first().and_then(|l| locked.group(l.counter));
            for limit in scope {
                seen.push(match group.as_mut().and_then(|g| g.find(limit.counter)) {
                    Some(counter) => {
                        counter.advance(at);
                        // Also where it refuses: what is used up is never charged again.
                        counter.prolong(limit.kind());
                        see(counter, limit)
                    }
                    None => see(&self.blank(limit.kind(), at), limit),
                });
            }
        }
        seen
    }

    /// Charges the counters of one scope.
    fn charge(
        &self,
        shard: &mut Shard,
        limits: &[Applicable],
        cost: u64,
        charged: &dyn Fn(&Applicable) -> bool,
        marks: &[Mark],
        reservation: &mut Reservation,
    ) {
        let (at, round) = (reservation.at, shard.round);
        let Some(first) = limits.first() else {
            return;
        };
        // What is not charged makes no counter.
        let mut group = if limits.iter().any(charged) {
            Some(shard.group_or_make(first.counter))
        } else {
            shard.group(first.counter)
        };
        for limit in limits {
            let (id, kind) = (limit.counter, limit.kind());
            let make = || self.blank(kind, at);
            let found = group.as_mut().and_then(|group| {
                if charged(limit) {
                    group.find_or_make(id, make)
                } else {
                    group.find(id)
                }
            });
            let Some(counter) = found else {
                reservation.readings.push(make().reading(limit, cost));
                continue;
            };
            if charged(limit) {
                if let Some(mark) = marks.iter().find(|mark| mark.counter == id) {
                    counter.granted = mark.granted;
                }
                counter.prolong(kind);
                debug_assert!(
                    !needs_mark(limit) || counter.reserved.saturating_add(cost) <= counter.granted
                );
                counter.charge(cost, at);
                reservation.charges.push(Charge {
                    counter: id,
                    kind,
                    reserved: cost,
                    kept: cost,
                    at,
                    round,
                });
            }
            reservation.readings.push(counter.reading(limit, cost));
        }
    }

    /// A counter that is not known: empty, but for windows while counters are lost and for quotas
    /// that were already forgotten, which a wall clock set back must not open again.
    pub(crate) fn blank(&self, kind: CounterKind, at: Ticks) -> Counter {
        let mut counter = Counter::new(kind, at);
        match &mut counter.body {
            Body::Window(window) => {
                let lost_at = self.lost_at();
                if lost_at.0 > 0 {
                    let slot = slot_at(window.per(), lost_at);
                    window.add_in(slot, u64::from(RateLimit::MAX_LARGEST));
                }
            }
            Body::Quota { ends_at } => {
                if ends_at.0 <= self.closed_before.load(Ordering::Acquire) {
                    counter.held = Quota::UNITS_LARGEST;
                }
            }
        }
        counter
    }
}

/// Forgets the counters of one shard that can refuse nobody.
pub(crate) fn evict_shard(shard: &Mutex<Shard>, now: Ticks, wall: Timestamp) -> usize {
    let mut shard = shard.lock();
    let at = shard.clamp(now);
    shard.retain(|counter| !counter.is_spent(at, wall))
}

fn of_one_scope(a: &Applicable, b: &Applicable) -> bool {
    a.counter.scope() == b.counter.scope()
}

/// Where a counter stands before a request is charged.
struct Standing {
    counted: u64,
    began: Ticks,
    reserved: u64,
    granted: u64,
}

impl Standing {
    fn of(counter: &Counter) -> Self {
        Self {
            counted: counter.counted(),
            began: counter.began,
            reserved: counter.reserved,
            granted: counter.granted,
        }
    }

    /// The mark that the counter needs before it can pay `cost`.
    fn raised_mark(&self, limit: &Applicable, cost: u64, at: Ticks) -> Mark {
        let units = grant_units(limit, self.counted, cost);
        Mark {
            counter: limit.counter,
            kind: limit.kind(),
            began: self.began,
            granted: self.reserved.saturating_add(units),
            at,
        }
    }
}
