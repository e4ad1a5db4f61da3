//! Choices: all of them from one seed.

use tollgate_testkit::SeededIds;

/// Draws numbers; the same seed gives the same ones.
#[derive(Debug)]
pub(crate) struct Dice(SeededIds);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SeededIds::new(seed))
    }

    /// Any number.
    pub(crate) fn any(&self) -> u64 {
        self.0.next_u64()
    }

    /// 0 to `n - 1`; 0 for 0.
    pub(crate) fn below(&self, n: u64) -> u64 {
        self.any() % n.max(1)
    }

    /// An index into `n` things.
    pub(crate) fn index(&self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap_or(0)
    }

    /// Once in `n` times.
    pub(crate) fn once_in(&self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&self, all: &[T], or: T) -> T {
        all.get(self.index(all.len())).copied().unwrap_or(or)
    }
}
