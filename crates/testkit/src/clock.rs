//! A clock that is set by hand, and ids from a seed, so that a test runs alike every time.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tollgate_model::{Clock, IdGen, Now, Ticks, Timestamp};

/// A clock that moves only when told.
#[derive(Debug)]
pub struct ManualClock {
    wall_us: AtomicI64,
    ticks_us: AtomicU64,
}

impl ManualClock {
    /// Both clocks at this instant.
    #[must_use]
    pub fn at(wall: Timestamp) -> Self {
        Self {
            wall_us: AtomicI64::new(wall.0),
            ticks_us: AtomicU64::new(u64::try_from(wall.0).unwrap_or(0)),
        }
    }

    /// Both clocks at an RFC 3339 instant; one that cannot be read is 1970.
    #[must_use]
    pub fn at_text(instant: &str) -> Self {
        Self::at(Timestamp::parse(instant).unwrap_or_default())
    }

    /// Time passes.
    pub fn advance_us(&self, us: u64) {
        self.ticks_us.fetch_add(us, Ordering::SeqCst);
        let wall_us = i64::try_from(us).unwrap_or(i64::MAX);
        self.wall_us.fetch_add(wall_us, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock; no time passes.
    pub fn set_wall(&self, wall: Timestamp) {
        self.wall_us.store(wall.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp(self.wall_us.load(Ordering::SeqCst)),
            ticks: Ticks(self.ticks_us.load(Ordering::SeqCst)),
        }
    }
}

/// Ids and "secrets" that are the same in every run with the same seed.
#[derive(Debug)]
pub struct SeededIds {
    state: AtomicU64,
}

impl SeededIds {
    /// The same seed gives the same ids.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(seed),
        }
    }

    /// The next number; also for a test's own choices.
    pub fn next_u64(&self) -> u64 {
        // A Weyl sequence through a mixer: no two states of one run give the same number.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let before = self.state.fetch_add(STEP, Ordering::Relaxed);
        let mut mixed = before.wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl IdGen for SeededIds {
    fn uuid(&self, at: Timestamp) -> u128 {
        let ms = u128::try_from(at.0.max(0) / 1_000).unwrap_or(0) & ((1 << 48) - 1);
        let random = self.next_u64();
        let (high, low) = (u128::from(random >> 52), u128::from(self.next_u64() >> 2));
        (ms << 80) | (0x7 << 76) | (high << 64) | (0b10 << 62) | low
    }

    fn fill(&self, secret: &mut [u8]) {
        for chunk in secret.chunks_mut(8) {
            for (slot, byte) in chunk.iter_mut().zip(self.next_u64().to_le_bytes()) {
                *slot = byte;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_only_when_told_and_a_set_wall_clock_moves_no_ticks() {
        let clock = ManualClock::at_text("2026-11-23T14:00:00Z");
        let before = clock.now();
        assert_eq!(clock.now(), before);
        clock.advance_us(1_500);
        assert_eq!(clock.now().ticks.since(before.ticks), 1_500);
        assert_eq!(clock.now().wall.since(before.wall), 1_500);
        clock.set_wall(before.wall);
        assert_eq!(clock.now().ticks.since(before.ticks), 1_500);
        assert_eq!(clock.now().wall, before.wall);
    }

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let (one, two) = (SeededIds::new(7), SeededIds::new(7));
        let ids: std::collections::HashSet<u128> =
            (0..1_000).map(|_| one.uuid(Timestamp(5_000_000))).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.contains(&two.uuid(Timestamp(5_000_000))));
        let mut secret = [0; 13];
        two.fill(&mut secret);
        assert_ne!(secret, [0; 13]);
    }
}
