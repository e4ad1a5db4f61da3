//! What a reservation gives back.

use smallvec::SmallVec;
use tollgate_admission::{LimitName, Reading, Readings, Refusal};
use tollgate_model::{Charge, CounterId, CounterKind, Ticks};

use crate::grant::GrantRefused;

/// On the heap: a reservation changes hands several times, and what was just written would be copied
/// each time.
pub(crate) type Taken = Vec<TakenOn>;

/// What was taken on one counter, if anything, and where its limit stands since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakenOn {
    pub(crate) counter: CounterId,
    pub(crate) kind: CounterKind,
    /// See [`Charge::round`]; `None`: nothing was taken.
    pub(crate) round: Option<u64>,
    pub(crate) reading: Reading,
}

pub(crate) type Charges = SmallVec<[Charge; 6]>;

/// Units taken on all counters of one request, until it is settled. One that is dropped instead
/// stays in flight for good.
#[derive(Debug)]
#[must_use = "a reservation must be settled, or its units stay in flight"]
pub struct Reservation {
    /// In the order of the limits.
    pub(crate) taken: Taken,
    /// Units, on each counter.
    pub(crate) cost: u64,
    pub(crate) would_deny: Option<LimitName>,
    pub(crate) at: Ticks,
}

impl Reservation {
    /// What was taken, for a progress entry of a request that takes long: each as if all of it
    /// were kept.
    pub fn charges(&self) -> impl Iterator<Item = Charge> + '_ {
        self.taken.iter().filter_map(|on| {
            Some(Charge {
                counter: on.counter,
                kind: on.kind,
                reserved: self.cost,
                kept: self.cost,
                at: self.at,
                round: on.round?,
            })
        })
    }

    /// Where each limit stands with this request counted, in the order of the limits.
    pub fn readings(&self) -> impl Iterator<Item = Reading> + '_ {
        self.taken.iter().map(|on| on.reading)
    }

    /// The limit that would have refused, were it not a shadow or only observed.
    #[must_use]
    pub fn would_deny(&self) -> Option<LimitName> {
        self.would_deny
    }

    /// The moment of admission, as counters took it.
    #[must_use]
    pub fn at(&self) -> Ticks {
        self.at
    }
}

/// A refusal; nothing was charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Why, and until when.
    pub refusal: Refusal,
    /// Where each limit stands, in the order of the limits.
    pub readings: Readings,
}

/// Why there is no reservation; nothing was charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveError {
    /// A limit refused.
    Denied(Box<Denied>),
    /// There was no room to write a mark down.
    GrantRefused,
}

impl From<GrantRefused> for ReserveError {
    fn from(_: GrantRefused) -> Self {
        Self::GrantRefused
    }
}
