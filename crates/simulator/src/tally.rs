//! One counter as the naive reading has it: who was charged when, and nothing else.

/// What stands at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    /// A request, with what it is charged now.
    Request(usize),
    /// Units that the gateway may hold on suspicion.
    Units(u64),
}

impl Item {
    fn units(self, of_request: impl Fn(usize) -> u64) -> u64 {
        match self {
            Self::Request(index) => of_request(index),
            Self::Units(units) => units,
        }
    }
}

/// Units of the last span; without a span, of all time.
///
/// Everything is kept, because time may go back: a gateway whose clock was set back, or stood,
/// begins again at the last tick that was written down.
#[derive(Debug, Default)]
pub(crate) struct Sliding {
    /// In rising order of time.
    items: Vec<(u64, Item)>,
    /// So many of them have left.
    left: usize,
    sum: u64,
    /// What is not later than this has left.
    cutoff: Option<u64>,
}

impl Sliding {
    /// Lets go of what is `span_us` old or older.
    pub(crate) fn slide(&mut self, now: u64, span_us: u64, units: impl Fn(usize) -> u64) {
        let Some(cutoff) = now.checked_sub(span_us) else {
            return;
        };
        self.cutoff = self.cutoff.max(Some(cutoff));
        while let Some((at, item)) = self.items.get(self.left).copied() {
            if Some(at) > self.cutoff {
                break;
            }
            self.sum = self.sum.saturating_sub(item.units(&units));
            self.left += 1;
        }
    }

    /// Time begins again at `now`: what was later is taken for of now, and what had left since
    /// comes back.
    pub(crate) fn rewind(&mut self, now: u64, units: impl Fn(usize) -> u64) {
        for (at, _) in &mut self.items {
            *at = now.min(*at);
        }
        self.left = 0;
        self.cutoff = None;
        self.sum = self.items.iter().map(|(_, item)| item.units(&units)).sum();
    }

    pub(crate) fn add(&mut self, at: u64, item: Item, units: u64) {
        self.items.push((at, item));
        self.sum = self.sum.saturating_add(units);
    }

    /// A request of that moment is charged less than it was.
    pub(crate) fn give_back(&mut self, at: u64, units: u64) {
        if Some(at) > self.cutoff {
            self.sum = self.sum.saturating_sub(units);
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }
}

/// One counter, from below and from above.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// What was certainly taken: no limit may let it grow beyond.
    pub(crate) taken: Sliding,
    /// What the gateway may count at most: only beyond it may a limit refuse.
    pub(crate) counted: Sliding,
    /// Charged in this life: a grant may be open.
    pub(crate) touched: bool,
    /// The largest grant of this life.
    pub(crate) grant: u64,
}
