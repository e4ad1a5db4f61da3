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
use crate::reservation::{Charges, Denied, Reservation, ReserveError, Taken, TakenOn};
use crate::shard::{Locked, Places, Shard, Shards};
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
        let at = locked.clamp(now.ticks);
        let mut places = locked.places(limits.iter().map(|limit| limit.counter));
        let asked = self.ask(&mut locked, &places, limits, cost, at);
        let (would_deny, charge_windows) = if asked.fit {
            (None, enforcement != Enforcement::Off)
        } else {
            let readings = self.readings(&mut locked, &places, limits, cost, at);
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
        if !asked.paid {
            for (limit, place) in limits.iter().zip(&places) {
                let mark = |counter: &Counter| raised_mark(counter, limit, cost, at);
                if charged(limit) && needs_mark(limit) {
                    marks.extend(match place.and_then(|place| locked.at(place)) {
                        Some((counter, _)) => mark(counter),
                        None => mark(&self.blank(limit.kind(), at)),
                    });
                }
            }
            if !marks.is_empty() {
                grants.grant(&marks)?;
            }
            // What is not charged makes no counter.
            for (limit, _) in limits
                .iter()
                .zip(&places)
                .filter(|(_, place)| place.is_none())
            {
                if charged(limit) {
                    let make = || self.blank(limit.kind(), at);
                    let shard = locked.shard(limit.counter);
                    shard.and_then(|shard| shard.find_or_make(limit.counter, make));
                }
            }
            places = locked.places(limits.iter().map(|limit| limit.counter));
        }

        let taken = self.take(&mut locked, &places, limits, cost, at, charged, &marks);
        Ok(Reservation {
            taken,
            cost,
            would_deny,
            at,
        })
    }

    /// Takes the units on the counters that are charged, under their raised marks.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of `reserve`, apart only for its length"
    )]
    fn take(
        &self,
        locked: &mut Locked<'_>,
        places: &Places,
        limits: &[Applicable],
        cost: u64,
        at: Ticks,
        charged: impl Fn(&Applicable) -> bool,
        marks: &[Mark],
    ) -> Taken {
        let mut taken = Taken::with_capacity(limits.len());
        for (limit, place) in limits.iter().zip(places) {
            let (counter, kind) = (limit.counter, limit.kind());
            let (round, reading) = match place.and_then(|place| locked.at(place)) {
                Some((held, round)) if charged(limit) => {
                    if let Some(mark) = marks.iter().find(|mark| mark.counter == counter) {
                        held.granted = mark.granted;
                    }
                    debug_assert!(!needs_mark(limit) || held.pays(cost));
                    held.charge(cost, at);
                    (Some(round), held.reading(limit, cost))
                }
                Some((held, _)) => (None, held.reading(limit, cost)),
                None => (None, self.blank(kind, at).reading(limit, cost)),
            };
            taken.push(TakenOn {
                counter,
                kind,
                round,
                reading,
            });
        }
        taken
    }

    /// Moves the limits' counters to a moment, and asks them for so many units.
    fn ask(
        &self,
        locked: &mut Locked<'_>,
        places: &Places,
        limits: &[Applicable],
        cost: u64,
        at: Ticks,
    ) -> Asked {
        let mut asked = Asked {
            fit: true,
            paid: true,
        };
        for (limit, place) in limits.iter().zip(places) {
            let counted = match place.and_then(|place| locked.at(place)) {
                Some((counter, _)) => {
                    counter.move_to(at, limit.kind());
                    asked.paid &= counter.pays(cost) || !needs_mark(limit);
                    counter.counted()
                }
                None => {
                    asked.paid = false;
                    self.blank(limit.kind(), at).counted()
                }
            };
            asked.fit &= limit.fits(counted, cost);
        }
        asked
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
        let taken = reservation.taken.iter().filter(|on| on.round.is_some());
        let counters = taken.clone().map(|on| on.counter);
        let mut locked = self.shards.lock(counters.clone());
        let places = locked.places(counters);
        let mut charges = Charges::new();
        for (on, place) in taken.zip(places) {
            let kept = match on.kind {
                CounterKind::Window(_) => kept_windows,
                CounterKind::Quota { .. } => kept_quotas,
            };
            let charge = Charge {
                counter: on.counter,
                kind: on.kind,
                reserved: reservation.cost,
                kept: kept.min(reservation.cost),
                at: reservation.at,
                round: on.round.unwrap_or(0),
            };
            if let Some((counter, _)) = place.and_then(|place| locked.at(place)) {
                counter.settle(&charge);
            }
            charges.push(charge);
        }
        assign(&charges);
    }

    /// Where each limit stands, and when it would admit `cost`. Charges nothing.
    #[must_use]
    pub fn read(&self, limits: &[Applicable], cost: u64, now: Now) -> Readings {
        let mut locked = self.shards.lock(limits.iter().map(|limit| limit.counter));
        let at = locked.clamp(now.ticks);
        let places = locked.places(limits.iter().map(|limit| limit.counter));
        self.readings(&mut locked, &places, limits, cost, at)
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

    fn readings(
        &self,
        locked: &mut Locked<'_>,
        places: &Places,
        limits: &[Applicable],
        cost: u64,
        at: Ticks,
    ) -> Readings {
        let mut readings = Readings::new();
        for (limit, place) in limits.iter().zip(places) {
            readings.push(match place.and_then(|place| locked.at(place)) {
                Some((counter, _)) => {
                    counter.move_to(at, limit.kind());
                    counter.reading(limit, cost)
                }
                None => self.blank(limit.kind(), at).reading(limit, cost),
            });
        }
        readings
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

/// What the counters of a request say before anything is decided.
struct Asked {
    /// The units fit every limit, shadows included.
    fit: bool,
    /// All counters are there, and their marks allow the units.
    paid: bool,
}

/// The mark that the counter needs before it can pay `cost`; `None` where it can.
fn raised_mark(counter: &Counter, limit: &Applicable, cost: u64, at: Ticks) -> Option<Mark> {
    let units = || grant_units(limit, counter.counted(), cost);
    (!counter.pays(cost)).then(|| Mark {
        counter: limit.counter,
        kind: limit.kind(),
        began: counter.began,
        granted: counter.reserved.saturating_add(units()),
        at,
    })
}
