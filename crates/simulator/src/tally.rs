//! One counter as the naive reading has it: who was charged when, and nothing else.

use std::collections::VecDeque;

/// What stands at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    /// A request, with what it is charged now.
    Request(usize),
    /// Units that the gateway may hold on suspicion.
    Units(u64),
}

/// Units of the last span; without a span, of all time.
#[derive(Debug, Default)]
pub(crate) struct Sliding {
    items: VecDeque<(u64, Item)>,
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
        while let Some((at, item)) = self.items.front().copied() {
            if Some(at) > self.cutoff {
                break;
            }
            let gone = match item {
                Item::Request(index) => units(index),
                Item::Units(units) => units,
            };
            self.sum = self.sum.saturating_sub(gone);
            self.items.pop_front();
        }
    }

    pub(crate) fn add(&mut self, at: u64, item: Item, units: u64) {
        if Some(at) > self.cutoff {
            self.items.push_back((at, item));
            self.sum = self.sum.saturating_add(units);
        }
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
