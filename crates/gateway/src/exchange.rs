//! One admitted request, from permit to record.
//!
//! **Invariants.** An exchange holds one permit and ends exactly once: by [`Exchange::finish`], or
//! by its [`Ending`] being dropped, whatever the reason (the client left, the connection was
//! ended, a panic). Ending settles the counters and appends the event; both are synchronous.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tollgate_admission::{
    CompiledLimits, Cost, Ended, GivenBack, HeaderValues, Limits, Readings, charge,
};
use tollgate_counters::Reservation;
use tollgate_journal::{Entry, Room};
#[cfg(feature = "testing")]
use tollgate_model::{By, Timestamp};
use tollgate_model::{Charge, CounterKind, DenialCode, Now, Outcome, Ticks, UsageEvent};

use crate::answer::Rates;
use crate::connection::Connection;
use crate::forward::Traffic;
use crate::keys::{Standing, standing};
use crate::options::{KEY_LOOK_US, PROGRESS_BYTES, PROGRESS_EVERY_US, TUNNEL_LIFE_US};
use crate::record::{Facts, Fate, Recorded, append, event};
use crate::worker::Worker;

/// Leave to forward one request: units taken, and room to write it down.
#[derive(Debug)]
pub(crate) struct Permit {
    pub(crate) reservation: Reservation,
    /// `None`: the journal is full and the API passes requests all the same.
    pub(crate) room: Option<Room>,
}

/// What an exchange was admitted on.
pub(crate) struct Terms {
    pub(crate) cost: Cost,
    pub(crate) compiled: CompiledLimits,
    pub(crate) limits: Limits,
    pub(crate) readings: Readings,
}

/// One admitted request.
pub(crate) struct Exchange {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    facts: Facts,
    terms: Terms,
    traffic: Rc<Traffic>,
    permit: RefCell<Option<Permit>>,
    sent: Cell<bool>,
    head_status: Cell<Option<u16>>,
    upstream_latency_us: Cell<Option<u64>>,
    stated: Cell<Option<u64>>,
    code: Cell<Option<DenialCode>>,
    cut: Cell<bool>,
    tunnel: Cell<bool>,
    given_back: Cell<GivenBack>,
    /// When the last progress entry was written, and the bytes passed by then.
    progress: Cell<(Ticks, u64)>,
}

impl Exchange {
    /// Begins an exchange on a connection.
    pub(crate) fn begin(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        facts: Facts,
        terms: Terms,
        permit: Permit,
    ) -> Rc<Self> {
        worker.node().metrics.in_flight.inc();
        let progress = Cell::new((facts.now.ticks, 0));
        let exchange = Rc::new(Self {
            worker: Rc::clone(worker),
            connection: Rc::clone(connection),
            facts,
            terms,
            traffic: Rc::default(),
            permit: RefCell::new(Some(permit)),
            sent: Cell::new(false),
            head_status: Cell::new(None),
            upstream_latency_us: Cell::new(None),
            stated: Cell::new(None),
            code: Cell::new(None),
            cut: Cell::new(false),
            tunnel: Cell::new(false),
            given_back: Cell::new(GivenBack::default()),
            progress,
        });
        connection.serve(&exchange);
        exchange
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    pub(crate) fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn traffic(&self) -> &Rc<Traffic> {
        &self.traffic
    }

    /// Starts of the periods that were charged: the subscription's and the key's.
    #[cfg(feature = "testing")]
    pub(crate) fn periods(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let start = |by| self.terms.compiled.period(by, self.facts.now);
        (
            start(By::Subscription).map(|period| period.start),
            start(By::Key).map(|period| period.start),
        )
    }

    /// Whether the upstream may have seen the request.
    pub(crate) fn set_sent(&self, sent: bool) {
        self.sent.set(sent);
    }

    /// The head of the upstream's answer is there.
    pub(crate) fn head_arrived(&self, status: u16) {
        self.head_status.set(Some(status));
        let waited = self.worker.now().ticks.since(self.facts.now.ticks);
        self.upstream_latency_us.set(Some(waited));
    }

    /// Whether the upstream may say what the call cost.
    pub(crate) fn may_state_cost(&self) -> bool {
        self.terms.cost.cost_max.is_some()
    }

    /// What the upstream says the call cost; nonsense says nothing.
    pub(crate) fn state_cost(&self, stated: Option<u64>) {
        if stated.is_some() {
            self.stated.set(stated);
        }
    }

    /// The client is answered by us with this code.
    pub(crate) fn fail_with(&self, code: DenialCode) {
        self.code.set(Some(code));
    }

    /// The exchange is ended by us: whatever happens from here on is the outcome `cut`.
    pub(crate) fn cut(&self) {
        self.cut.set(true);
        self.worker.node().metrics.cuts.inc();
    }

    /// From here on it is a tunnel.
    pub(crate) fn begin_tunnel(&self) {
        self.tunnel.set(true);
    }

    /// A tunnel that has lived for as long as tunnels may, or a key whose time is over by now.
    pub(crate) fn has_outlived(&self, now: Now) -> bool {
        let age = now.ticks.since(self.facts.now.ticks);
        if self.tunnel.get() && age > TUNNEL_LIFE_US {
            return true;
        }
        // Short exchanges end before this matters, and asking for all of them would cost.
        let Some(key) = self.facts.caller.key.as_ref().filter(|_| age > KEY_LOOK_US) else {
            return false;
        };
        // The key as it is now: its end may have been moved since.
        let known = self.worker.node().keys.find(&key.hash);
        known.is_none_or(|key| standing(&key, now.wall) != Standing::Usable)
    }

    /// What the answer's headers say about limits, as far as its head decides it.
    pub(crate) fn rates_at_head(&self, status: u16) -> Option<Rates<'_>> {
        let charged = &self.facts.route.api().charge;
        let cost = self.terms.cost;
        let kept = cost.kept_at_head(status, self.stated.get(), charged);
        let reserved = cost.reserved();
        self.rates(GivenBack {
            windows: reserved.saturating_sub(kept.windows),
            quotas: reserved.saturating_sub(kept.quotas),
        })
    }

    /// The same once the exchange has ended.
    pub(crate) fn rates_after(&self) -> Option<Rates<'_>> {
        self.rates(self.given_back.get())
    }

    fn rates(&self, given_back: GivenBack) -> Option<Rates<'_>> {
        let terms = &self.terms;
        let now = self.facts.now;
        let values = HeaderValues::new(&terms.limits, &terms.readings, None, given_back, now);
        Some(Rates {
            values,
            policy: terms.compiled.policy(),
        })
    }

    /// Ends the exchange: settles and records. Later calls do nothing.
    pub(crate) fn finish(&self, outcome: Outcome) -> Recorded {
        let Some(permit) = self.permit.take() else {
            return Recorded::Done;
        };
        let outcome = if self.cut.get() {
            Outcome::Cut
        } else {
            outcome
        };
        let node = self.worker.node();
        node.metrics.in_flight.dec();
        let kept = charge(
            self.terms.cost,
            &Ended {
                outcome,
                sent: self.sent.get(),
                head_status: self.head_status.get(),
                stated: self.stated.get(),
                charged: &self.facts.route.api().charge,
            },
        );
        if kept.capped {
            node.metrics.costs_capped.inc();
        }
        let reserved = self.terms.cost.reserved();
        self.given_back.set(GivenBack {
            windows: reserved.saturating_sub(kept.windows),
            quotas: reserved.saturating_sub(kept.quotas),
        });
        let would_deny = permit.reservation.would_deny();
        let so_far = self.fate_so_far(outcome);
        self.facts.route.owner().metrics.answered(so_far.status);
        self.connection.finish(self.worker.now().ticks);
        let Some(room) = permit.room else {
            let counters = &node.counters;
            counters.settle_unrecorded(permit.reservation, kept.windows, kept.quotas);
            node.metrics.events_lost.inc();
            node.metrics.lost_units.inc_by(kept.quotas);
            return Recorded::Done;
        };
        let mut charges: Vec<Charge> = Vec::new();
        node.counters
            .settle(permit.reservation, kept.windows, kept.quotas, &mut |all| {
                charges.extend_from_slice(all);
                self.worker.claim_sequence();
            });
        let fate = Fate {
            units: units_of(&charges),
            would_deny: would_deny.map(tollgate_admission::LimitName::as_str),
            ..so_far
        };
        let event = event(&self.facts, Some(&self.terms.compiled), outcome, &fate);
        append(&self.worker, room, event, charges)
    }

    fn fate_so_far(&self, outcome: Outcome) -> Fate {
        let code = self.code.get();
        let answered = code.map(DenialCode::status).or(self.head_status.get());
        // Nobody was sent a head: the client had gone, or we ended it.
        let unanswered = match outcome {
            Outcome::Cut | Outcome::Interrupted => 503,
            _ => 499,
        };
        Fate {
            status: answered.unwrap_or(unanswered),
            code,
            limit: None,
            would_deny: None,
            latency_us: self.worker.now().ticks.since(self.facts.now.ticks),
            upstream_latency_us: self.upstream_latency_us.get(),
            bytes_in: self.traffic.bytes_in.get(),
            bytes_out: self.traffic.bytes_out.get(),
            units: 0,
        }
    }

    /// Bytes have passed: writes a progress entry where enough of them have.
    pub(crate) fn note_progress(&self) {
        let (_, bytes) = self.progress.get();
        let passed = self.traffic.bytes_in.get() + self.traffic.bytes_out.get();
        if passed.saturating_sub(bytes) >= PROGRESS_BYTES {
            self.write_progress();
        }
    }

    /// Time has passed: writes a progress entry where enough of it has.
    pub(crate) fn look_at_progress(&self, now: Ticks) {
        let (at, _) = self.progress.get();
        if now.since(at) >= PROGRESS_EVERY_US {
            self.write_progress();
        } else {
            self.note_progress();
        }
    }

    fn write_progress(&self) {
        let now = self.worker.now().ticks;
        let started = self.facts.now.ticks;
        let passed = self.traffic.bytes_in.get() + self.traffic.bytes_out.get();
        // Before its first minute an exchange is short: its record alone tells of it.
        if now.since(started) < PROGRESS_EVERY_US {
            return;
        }
        self.progress.set((now, passed));
        let permit = self.permit.borrow();
        let Some(permit) = permit.as_ref() else {
            return;
        };
        if permit.room.is_none() {
            return;
        }
        let charges: Vec<Charge> = permit.reservation.charges().collect();
        let event = self.event_so_far(&charges);
        self.worker
            .append_extra(&Entry::Progress { event, charges });
    }

    fn event_so_far(&self, charges: &[Charge]) -> UsageEvent {
        let fate = Fate {
            units: units_of(charges),
            ..self.fate_so_far(Outcome::Interrupted)
        };
        let compiled = Some(&self.terms.compiled);
        event(&self.facts, compiled, Outcome::Interrupted, &fate)
    }
}

/// What quotas were charged: the same on each of them.
fn units_of(charges: &[Charge]) -> u64 {
    let quota = charges
        .iter()
        .find(|c| matches!(c.kind, CounterKind::Quota { .. }));
    quota.map_or(0, |c| c.kept)
}

/// Sees to it that an exchange ends: dropped unended, it records the client's leaving.
pub(crate) struct Ending(Rc<Exchange>);

impl Ending {
    pub(crate) fn new(exchange: Rc<Exchange>) -> Self {
        Self(exchange)
    }

    pub(crate) fn exchange(&self) -> &Rc<Exchange> {
        &self.0
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Nobody is left to wait for the record.
        let _unawaited = self.0.finish(Outcome::ClientClosed);
    }
}
