//! What really happened: every request that the upstream saw, every answer that a client got, and
//! every record that reached the store. Survives every crash, shares nothing with what is tested.
//!
//! **Checks.** At each admission: no limit in any window or period is passed. At each refusal: a
//! limit is reached, give or take what a crash may hold. At each record: it is of a request that
//! happened, the first of it, and tells what it was charged. At the end: nothing acknowledged is
//! missing.

use std::collections::{BTreeMap, HashMap};

use tollgate_journal::LostSpan;
use tollgate_model::{By, DenialCode, EventId, Now, Outcome, RequestId, Timestamp, UsageEvent};

use crate::market::{Bound, Call, Market, Name, SUBSCRIPTIONS, What};
use crate::request::{Phase, Request};
use crate::tally::{Item, Tally};

/// A rule is broken; in words.
pub(crate) type Checked = Result<(), String>;

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// The kernel keeps what it had.
    Kill,
    /// What was not on disk may be gone.
    PowerCut,
}

/// All that happened.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    requests: Vec<Request>,
    by_id: HashMap<RequestId, usize>,
    tallies: HashMap<Name, Tally>,
    /// Admitted or ended since everything was last known to be on disk.
    unsynced: Vec<usize>,
    /// How many requests had been admitted by then.
    synced: usize,
    /// In flight when the last life ended, or ended without the kernel knowing.
    orphans: Vec<usize>,
    power_cut: bool,
    /// A start after a power cut died before it could tell what was lost.
    untold: bool,
    /// The journal did not tell everything, at this tick.
    lost_at: Option<u64>,
    latest_wall: Timestamp,
    latest_tick: u64,
    delivered_units: BTreeMap<(By, usize, i64), u64>,
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
    pub(crate) delivered: u64,
    pub(crate) excused: u64,
}

/// A window's span, and what the gateway may count it longer.
fn spans(what: What) -> (u64, u64) {
    match what {
        What::Window(per) => (per.span_us(), per.span_us() + per.span_us() / 60 + 10),
        What::Quota(_) => (u64::MAX, u64::MAX),
    }
}

impl Truth {
    /// Units of a request on a counter, now.
    fn units_on(requests: &[Request], index: usize, name: Name, forget: bool) -> u64 {
        let Some(request) = requests.get(index) else {
            return 0;
        };
        match name.what {
            _ if forget && request.forgotten => 0,
            What::Window(_) => request.units.0,
            What::Quota(_) => request.units.1,
        }
    }

    fn slide(&mut self, name: Name, now: u64) -> &mut Tally {
        let (span, held) = spans(name.what);
        let requests = &self.requests;
        let tally = self.tallies.entry(name).or_default();
        tally
            .taken
            .slide(now, span, |i| Self::units_on(requests, i, name, true));
        tally
            .counted
            .slide(now, held, |i| Self::units_on(requests, i, name, false));
        tally
    }

    /// The quotas of a call in stated periods.
    fn quota_bounds(market: &Market, call: Call, start: impl Fn(By) -> Option<i64>) -> Vec<Bound> {
        let quotas = market.quotas(call).into_iter();
        let bound = |(by, id, _, ceiling)| {
            Some(Bound {
                name: Name {
                    what: What::Quota(start(by)?),
                    by,
                    id,
                    on: None,
                },
                ceiling,
            })
        };
        quotas.filter_map(bound).collect()
    }

    /// The gateway let a request through.
    pub(crate) fn admit(
        &mut self,
        market: &Market,
        id: RequestId,
        call: Call,
        now: Now,
        periods: (Option<Timestamp>, Option<Timestamp>),
    ) -> Checked {
        if market.is_revoked(call.holder) {
            return Err(format!("{id:?} was let through with a revoked key"));
        }
        self.check_periods(market, call, now, periods)?;
        let price = Market::price(call);
        let cost = price.reserved();
        let start = |by| match by {
            By::Subscription => periods.0.map(|at| at.0),
            _ => periods.1.map(|at| at.0),
        };
        let mut bounds = market.windows(call);
        bounds.extend(Self::quota_bounds(market, call, start));
        for bound in &bounds {
            let taken = self.slide(bound.name, now.ticks.0).taken.sum();
            if bound.ceiling.is_some_and(|most| taken + cost > most) {
                return Err(format!(
                    "{id:?} over the limit: {bound:?} had {taken} taken and {cost} came on top"
                ));
            }
        }
        let index = self.requests.len();
        let mut names: Vec<Name> = bounds.iter().map(|bound| bound.name).collect();
        names.sort_unstable();
        names.dedup();
        for bound in &bounds {
            let left = bound.ceiling.unwrap_or(u64::MAX) / 64;
            let tally = self.tallies.entry(bound.name).or_default();
            tally.touched = true;
            tally.grant = tally.grant.max(left.clamp(1, 1_024).max(cost));
        }
        for name in &names {
            let tally = self.tallies.entry(*name).or_default();
            tally.taken.add(now.ticks.0, Item::Request(index), cost);
            tally.counted.add(now.ticks.0, Item::Request(index), cost);
        }
        self.admitted += 1;
        self.unsynced.push(index);
        self.insert(Request {
            id,
            price,
            lossy: market.subscription_of(call.holder) + 1 == SUBSCRIPTIONS,
            at: now.ticks.0,
            ended_at: now.ticks.0,
            names,
            periods,
            phase: Phase::Aloft,
            units: (cost, cost),
            acknowledged: false,
            excused: false,
            forgotten: false,
            delivered: false,
            buried: false,
        })
    }

    fn insert(&mut self, request: Request) -> Checked {
        let index = self.requests.len();
        if self.by_id.insert(request.id, index).is_some() {
            return Err(format!("the id {:?} was given out twice", request.id));
        }
        self.requests.push(request);
        Ok(())
    }

    /// A period holds the moment, or is a later one that the gateway has seen already.
    fn check_periods(
        &self,
        market: &Market,
        call: Call,
        now: Now,
        stated: (Option<Timestamp>, Option<Timestamp>),
    ) -> Checked {
        let subscription = market.subscription_of(call.holder);
        for (by, _, every, _) in market.quotas(call) {
            let start = if by == By::Key { stated.1 } else { stated.0 };
            let period = |at| market.period(subscription, every, at).map(|p| p.0);
            let fits = start.is_some_and(|start| {
                period(now.wall) <= Some(start.0) && Some(start.0) <= period(self.latest_wall)
            });
            if !fits {
                return Err(format!(
                    "at {} a call counts in {start:?} ({by:?})",
                    now.wall
                ));
            }
        }
        Ok(())
    }

    /// The gateway refused a request.
    pub(crate) fn refuse(
        &mut self,
        market: &Market,
        id: RequestId,
        call: Call,
        now: Now,
        code: DenialCode,
    ) -> Checked {
        self.refused += 1;
        let revoked = market.is_revoked(call.holder);
        let fits = match code {
            DenialCode::KeyRevoked => revoked,
            _ if revoked => false,
            DenialCode::RateLimited => self.may_limit(&market.windows(call), call, now),
            DenialCode::QuotaExceeded => self.may_exceed(market, call, now),
            DenialCode::CountersUnavailable => self.lost_at.is_some(),
            DenialCode::JournalFull => true,
            _ => false,
        };
        if !fits {
            return Err(format!(
                "{id:?} was refused without reason: {code:?}, {call:?}"
            ));
        }
        self.turn_away(id, call, now)
    }

    /// The gateway refused a request, which may be recorded: it may have died before it said so.
    pub(crate) fn turn_away(&mut self, id: RequestId, call: Call, now: Now) -> Checked {
        self.insert(Request {
            id,
            price: Market::price(call),
            lossy: false,
            at: now.ticks.0,
            ended_at: now.ticks.0,
            names: Vec::new(),
            periods: (None, None),
            phase: Phase::Refused,
            units: (0, 0),
            acknowledged: false,
            excused: false,
            forgotten: false,
            delivered: false,
            buried: false,
        })
    }

    fn may_limit(&mut self, bounds: &[Bound], call: Call, now: Now) -> bool {
        let cost = Market::price(call).reserved();
        bounds.iter().any(|bound| {
            let held = spans(bound.name.what).1;
            let blind = self
                .lost_at
                .is_some_and(|at| now.ticks.0.saturating_sub(at) <= held);
            let counted = self.slide(bound.name, now.ticks.0).counted.sum();
            blind || bound.ceiling.is_some_and(|most| counted + cost > most)
        })
    }

    fn may_exceed(&mut self, market: &Market, call: Call, now: Now) -> bool {
        // What was lost is held against quotas until their periods are over.
        if self.lost_at.is_some() {
            return true;
        }
        let subscription = market.subscription_of(call.holder);
        let period = |every, at| market.period(subscription, every, at);
        let back = market
            .quotas(call)
            .iter()
            .any(|(_, _, every, _)| period(*every, now.wall) != period(*every, self.latest_wall));
        // A wall clock that was set back: which period a key is in depends on when it was seen.
        if back {
            return true;
        }
        let start = |wanted: By| {
            let quotas = market.quotas(call);
            let (_, _, every, _) = quotas.iter().find(|(by, ..)| *by == wanted)?;
            period(*every, now.wall).map(|p| p.0)
        };
        let bounds = Self::quota_bounds(market, call, start);
        self.may_limit(&bounds, call, now)
    }

    /// A request has ended with this outcome; `units` are what windows and quotas keep.
    pub(crate) fn end(&mut self, id: RequestId, outcome: Outcome, units: (u64, u64), now: Now) {
        let Some(index) = self.by_id.get(&id).copied() else {
            return;
        };
        let Some(request) = self.requests.get_mut(index) else {
            return;
        };
        let back = (
            request.units.0.saturating_sub(units.0),
            request.units.1.saturating_sub(units.1),
        );
        request.phase = Phase::Ended(outcome, units.1);
        request.ended_at = now.ticks.0;
        request.units = units;
        for name in &request.names {
            let back = match name.what {
                What::Window(_) => back.0,
                What::Quota(_) => back.1,
            };
            if let Some(tally) = self.tallies.get_mut(name) {
                tally.taken.give_back(request.at, back);
                tally.counted.give_back(request.at, back);
            }
        }
        self.unsynced.push(index);
    }

    /// The client has the last byte of the answer.
    pub(crate) fn acknowledge(&mut self, id: RequestId) {
        let index = self.by_id.get(&id).copied();
        if let Some(request) = index.and_then(|index| self.requests.get_mut(index)) {
            request.acknowledged = true;
            if request.phase == Phase::Refused {
                self.unsynced.extend(index);
            }
        }
    }

    /// Everything written is on disk.
    pub(crate) fn all_synced(&mut self) {
        self.unsynced.clear();
        self.synced = self.requests.len();
    }

    /// Time has passed.
    pub(crate) fn see(&mut self, now: Now) {
        self.latest_wall = self.latest_wall.max(now.wall);
        self.latest_tick = self.latest_tick.max(now.ticks.0);
    }

    /// Ticks begin again before the latest, as nothing that was written down says how late it was.
    fn rewind(&mut self, now: u64) {
        self.latest_tick = now;
        for request in &mut self.requests {
            request.at = request.at.min(now);
        }
        let requests = &self.requests;
        for (name, tally) in &mut self.tallies {
            let units = |forget| move |i| Self::units_on(requests, i, *name, forget);
            tally.taken.rewind(now, units(true));
            tally.counted.rewind(now, units(false));
        }
    }

    /// The process or the machine is dead.
    pub(crate) fn die(&mut self, death: Death) {
        self.power_cut |= death == Death::PowerCut;
        for (index, request) in self.requests.iter_mut().enumerate() {
            let aloft = request.phase == Phase::Aloft;
            let ended = matches!(request.phase, Phase::Ended(..));
            // A call whose loss was declared left no record: all that was reserved may be held.
            let unheard = ended && (!request.acknowledged || request.lossy) && !request.buried;
            if aloft {
                request.phase = Phase::Orphaned;
            }
            if aloft || unheard {
                request.buried = true;
                self.orphans.push(index);
            }
            if request.lossy {
                Self::forget(&mut self.tallies, request);
            }
        }
        if death == Death::PowerCut {
            self.orphans.extend(&self.unsynced);
        }
    }

    fn forget(tallies: &mut HashMap<Name, Tally>, request: &mut Request) {
        if request.forgotten {
            return;
        }
        request.forgotten = true;
        for name in &request.names {
            let units = match name.what {
                What::Window(_) => request.units.0,
                What::Quota(_) => request.units.1,
            };
            if let Some(tally) = tallies.get_mut(name) {
                tally.taken.give_back(request.at, units);
            }
        }
    }

    /// A start failed: what it found out about a power cut is not told again.
    pub(crate) fn stillborn(&mut self) {
        self.untold |= self.power_cut;
    }

    /// A gateway has started on what was left.
    pub(crate) fn reborn(
        &mut self,
        now: Now,
        durable: bool,
        lost: Option<LostSpan>,
        complete: bool,
    ) {
        let told = |at: u64| {
            let from = lost.map(|span| u64::try_from(span.from.0).unwrap_or(0));
            from.is_some_and(|from| at >= from)
        };
        if std::mem::take(&mut self.power_cut) {
            let untold = std::mem::take(&mut self.untold);
            for index in std::mem::take(&mut self.unsynced) {
                let Some(request) = self.requests.get_mut(index) else {
                    continue;
                };
                let fresh = index >= self.synced;
                if fresh && (untold || durable || told(request.at)) {
                    Self::forget(&mut self.tallies, request);
                }
                let excused = !durable && (untold || told(request.ended_at));
                if excused && !request.excused {
                    request.excused = true;
                    self.excused += 1;
                }
            }
        }
        if now.ticks.0 < self.latest_tick {
            self.rewind(now.ticks.0);
        }
        if !complete {
            self.lost_at = Some(now.ticks.0);
        }
        for tally in self.tallies.values_mut().filter(|tally| tally.touched) {
            tally.touched = false;
            let grant = std::mem::take(&mut tally.grant);
            tally.counted.add(now.ticks.0, Item::Units(grant), grant);
        }
        self.orphans.sort_unstable();
        self.orphans.dedup();
        for index in std::mem::take(&mut self.orphans) {
            let Some(request) = self.requests.get(index) else {
                continue;
            };
            let reserved = request.price.reserved();
            for name in &request.names {
                let units = match name.what {
                    What::Window(_) => reserved,
                    What::Quota(_) => reserved.saturating_sub(request.units.1),
                };
                if let Some(tally) = self.tallies.get_mut(name) {
                    tally.counted.add(now.ticks.0, Item::Units(units), units);
                }
            }
        }
    }

    /// The gateway stopped in order: nothing is held on suspicion.
    pub(crate) fn rest(&mut self) {
        for tally in self.tallies.values_mut() {
            tally.touched = false;
            tally.grant = 0;
        }
    }

    /// A record has reached the store.
    pub(crate) fn deliver(&mut self, market: &Market, event: &UsageEvent) -> Checked {
        let EventId::Request(id) = &event.id else {
            return Err(format!("a record of nobody's: {:?}", event.id));
        };
        self.delivered += 1;
        let Some(index) = self.by_id.get(id).copied() else {
            let summary = event.outcome == Outcome::Denied && &*event.route == "*";
            return if summary {
                Ok(())
            } else {
                Err(format!("a record of a request that never was: {event:?}"))
            };
        };
        let Some(request) = self.requests.get_mut(index) else {
            return Ok(());
        };
        if std::mem::replace(&mut request.delivered, true) {
            return Err(format!(
                "{id:?} is in the store twice: {request:?}, {event:?}"
            ));
        }
        let reserved = request.price.reserved();
        let told = (event.outcome, event.units);
        let broken_off = told == (Outcome::Interrupted, reserved);
        let fits = match request.phase {
            Phase::Aloft => false,
            Phase::Orphaned => broken_off,
            Phase::Refused => told == (Outcome::Denied, 0),
            Phase::Ended(outcome, units) => {
                let unheard = !request.acknowledged || request.excused;
                told == (outcome, units) || (unheard && broken_off)
            }
        };
        let periods = (event.subscription_period, event.key_period);
        if !fits || (request.phase != Phase::Refused && periods != request.periods) {
            return Err(format!(
                "{id:?} is recorded as {event:?} but was {request:?}"
            ));
        }
        if event.units > 0 {
            let holder = market
                .holders
                .iter()
                .position(|h| Some(&h.key.id) == event.key.as_ref());
            let holder = holder.unwrap_or(usize::MAX);
            let subscription = market.subscription_of(holder);
            let parts = [
                (By::Subscription, subscription, periods.0),
                (By::Key, holder, periods.1),
            ];
            for (by, id, start) in parts {
                if let Some(start) = start {
                    *self.delivered_units.entry((by, id, start.0)).or_default() += event.units;
                }
            }
        }
        Ok(())
    }

    /// Nothing acknowledged is missing.
    pub(crate) fn check_whole(&self) -> Checked {
        let missing = self.requests.iter().find(|request| {
            request.acknowledged && !request.delivered && !request.excused && !request.lossy
        });
        match missing {
            None => Ok(()),
            Some(request) => Err(format!("acknowledged and lost: {request:?}")),
        }
    }

    /// Units of all records, by whose quota and period.
    pub(crate) fn delivered_units(&self) -> &BTreeMap<(By, usize, i64), u64> {
        &self.delivered_units
    }
}
