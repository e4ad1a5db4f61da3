//! What a reservation gives back.

use smallvec::SmallVec;
use tollgate_admission::{LimitName, Reading, Readings, Refusal};
use tollgate_model::{Charge, Ticks};

use crate::grant::GrantRefused;

pub(crate) type Charges = SmallVec<[Charge; 6]>;

/// Units taken on all counters of one request, until it is settled. One that is dropped instead
/// stays in flight for good.
#[derive(Debug)]
#[must_use = "a reservation must be settled, or its units stay in flight"]
pub struct Reservation {
    pub(crate) charges: Charges,
    pub(crate) readings: Readings,
    pub(crate) would_deny: Option<LimitName>,
    pub(crate) at: Ticks,
}

impl Reservation {
    /// What was taken, for a progress entry of a request that takes long: each as if all of it
    /// were kept.
    #[must_use]
    pub fn charges(&self) -> &[Charge] {
        &self.charges
    }

    /// Where each limit stands with this request counted, in the order of the limits.
    #[must_use]
    pub fn readings(&self) -> &[Reading] {
        &self.readings
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
