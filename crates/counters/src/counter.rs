//! One counter.
//!
//! **Invariants.** `reserved <= granted`, both in units taken at admission since the counter was
//! made, whatever is given back later: units given back are not taken again under the old mark,
//! so `granted - reserved` is never more than one grant. `in_flight` and `requests` are the sums
//! over reservations that are not yet settled.

use tollgate_admission::{Applicable, Reading, Window, slot_at};
use tollgate_model::{Charge, CounterId, CounterKind, CounterState, Ticks, Timestamp};

/// How long a quota is kept after its period, in microseconds: as long as late requests and a
/// wall clock that is set back may still ask for it.
pub(crate) const QUOTA_KEPT_US: i64 = 3_600_000_000;

/// What a counter counts.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Window(Window),
    /// Used: what was settled, what is held and what is in flight.
    Quota {
        ends_at: Timestamp,
    },
}

/// One counter. In this order: what counts stands in one cache line, the rest in the next.
#[derive(Debug, Clone)]
#[repr(C)]
pub(crate) struct Counter {
    pub(crate) body: Body,
    /// When it was made.
    pub(crate) began: Ticks,
    /// Units kept by requests that have ended.
    pub(crate) settled: u64,
    /// Units counted that no event of this period accounts for: what an earlier life of the
    /// gateway took, or may have taken, without its end being written down; what was passed by
    /// declared loss; what events of a period of another length account for.
    pub(crate) held: u64,
    /// Units of requests in flight.
    pub(crate) in_flight: u64,
    /// Units taken at admission.
    pub(crate) reserved: u64,
    /// The mark.
    pub(crate) granted: u64,
    /// When it was last charged.
    pub(crate) charged_at: Ticks,
    /// Requests in flight.
    pub(crate) requests: u32,
}

impl Counter {
    /// A counter that has counted nothing yet.
    pub(crate) fn new(kind: CounterKind, began: Ticks) -> Self {
        let body = match kind {
            CounterKind::Window(per) => {
                let mut window = Window::new(per);
                window.advance(began);
                Body::Window(window)
            }
            CounterKind::Quota { ends_at } => Body::Quota { ends_at },
        };
        Self {
            body,
            began,
            settled: 0,
            held: 0,
            in_flight: 0,
            reserved: 0,
            granted: 0,
            charged_at: began,
            requests: 0,
        }
    }

    pub(crate) fn kind(&self) -> CounterKind {
        match &self.body {
            Body::Window(window) => CounterKind::Window(window.per()),
            Body::Quota { ends_at } => CounterKind::Quota { ends_at: *ends_at },
        }
    }

    /// Periods of two lengths may begin together and share the counter: the longer holds.
    #[inline]
    pub(crate) fn prolong(&mut self, kind: CounterKind) {
        if let (Body::Quota { ends_at }, CounterKind::Quota { ends_at: asked }) =
            (&mut self.body, kind)
        {
            *ends_at = (*ends_at).max(asked);
        }
    }

    /// Lets what is too old go.
    #[inline]
    pub(crate) fn advance(&mut self, now: Ticks) {
        if let Body::Window(window) = &mut self.body {
            window.advance(now);
        }
    }

    /// Moves the counter to a request's moment. Also where it will refuse: what is used up is never
    /// charged again, and must not be forgotten earlier for it.
    #[inline]
    pub(crate) fn move_to(&mut self, now: Ticks, kind: CounterKind) {
        self.advance(now);
        self.prolong(kind);
    }

    /// Units kept, held and in flight.
    #[inline]
    pub(crate) fn spent(&self) -> u64 {
        let ended = self.settled.saturating_add(self.held);
        ended.saturating_add(self.in_flight)
    }

    /// Units that count against limits, at the latest moment the counter was moved to.
    #[inline]
    pub(crate) fn counted(&self) -> u64 {
        match &self.body {
            Body::Window(window) => window.counted(),
            Body::Quota { .. } => self.spent(),
        }
    }

    #[inline]
    pub(crate) fn reading(&self, limit: &Applicable, cost: u64) -> Reading {
        match &self.body {
            Body::Window(window) => Reading::of_window(window, limit, cost),
            Body::Quota { .. } => Reading::of_quota(self.spent()),
        }
    }

    /// Whether the mark allows so many units more.
    #[inline]
    pub(crate) fn pays(&self, cost: u64) -> bool {
        self.reserved.saturating_add(cost) <= self.granted
    }

    /// Takes units. The mark must allow it, where one is needed.
    #[inline]
    pub(crate) fn charge(&mut self, cost: u64, at: Ticks) {
        if let Body::Window(window) = &mut self.body {
            window.add(cost);
        }
        self.in_flight = self.in_flight.saturating_add(cost);
        self.reserved = self.reserved.saturating_add(cost);
        self.granted = self.granted.max(self.reserved);
        self.requests = self.requests.saturating_add(1);
        self.charged_at = at;
    }

    /// Ends a request: keeps what is kept and gives the rest back, to a window in the slot of
    /// admission, if that still counts.
    #[inline]
    pub(crate) fn settle(&mut self, charge: &Charge) {
        let back = charge.reserved.saturating_sub(charge.kept);
        if let (Body::Window(window), true) = (&mut self.body, back > 0) {
            let slot = slot_at(window.per(), charge.at);
            window.give_back(slot, back);
        }
        self.in_flight = self.in_flight.saturating_sub(charge.reserved);
        self.requests = self.requests.saturating_sub(1);
        self.settled = self.settled.saturating_add(charge.kept);
    }

    /// Whether it can be forgotten without anybody getting a unit more: nothing in it counts any
    /// more, now or later.
    pub(crate) fn is_spent(&mut self, ticks: Ticks, wall: Timestamp) -> bool {
        if self.requests > 0 {
            return false;
        }
        match &mut self.body {
            Body::Window(window) => {
                window.advance(ticks);
                // Also where all was given back at once: the next life must begin later than any
                // charge of this one, or a restart could not tell them apart.
                let idle_us = ticks.since(self.charged_at);
                window.counted() == 0 && idle_us > window.per().span_us()
            }
            Body::Quota { ends_at } => ends_at.plus_us(QUOTA_KEPT_US) <= wall,
        }
    }

    pub(crate) fn state(&self, counter: CounterId) -> CounterState {
        CounterState {
            counter,
            kind: self.kind(),
            began: self.began,
            settled: self.settled,
            held: self.held,
            spent: self.spent(),
            reserved: self.reserved,
            granted: self.granted,
            slots: match &self.body {
                Body::Window(window) => window.slots().collect(),
                Body::Quota { .. } => Vec::new(),
            },
        }
    }
}
