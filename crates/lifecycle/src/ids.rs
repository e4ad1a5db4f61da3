//! Ids and secrets from the system's random source.
//!
//! The generator is one per thread, seeded and reseeded from the system, and cryptographically
//! secure, so that no request waits for a system call or for another thread.

use rand::Rng;
use tollgate_model::{IdGen, Timestamp};

/// UUIDv7s and random bytes.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemIds;

impl IdGen for SystemIds {
    fn uuid(&self, at: Timestamp) -> u128 {
        uuid_v7(at, random_u64())
    }

    fn fill(&self, secret: &mut [u8]) {
        fill_random(secret);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where ambient randomness is read"
)]
fn fill_random(bytes: &mut [u8]) {
    rand::rng().fill_bytes(bytes);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where ambient randomness is read"
)]
fn random_u64() -> u64 {
    rand::rng().next_u64()
}

/// RFC 9562, version 7: 48 bits of milliseconds, then the fraction of the millisecond in the 12
/// bits after the version, then 62 random bits. Ids of one node sort by microsecond or better.
fn uuid_v7(at: Timestamp, random: u64) -> u128 {
    let us = u64::try_from(at.0).unwrap_or(0);
    let ms = u128::from(us / 1_000) & ((1 << 48) - 1);
    let fraction = u128::from((us % 1_000) * 4_096 / 1_000);
    let tail = u128::from(random >> 2);
    (ms << 80) | (0x7 << 76) | (fraction << 64) | (0b10 << 62) | tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_sort_by_time() {
        let at = Timestamp(1_764_000_000_000_000);
        let id = uuid_v7(at, u64::MAX);
        assert_eq!((id >> 76) & 0xf, 7);
        assert_eq!((id >> 62) & 0b11, 0b10);
        assert_eq!(id >> 80, 1_764_000_000_000);
        assert!(id < uuid_v7(at.plus_us(1), 0));
    }

    #[test]
    fn ids_and_secrets_do_not_repeat() {
        let at = Timestamp(1);
        let ids: std::collections::HashSet<u128> =
            (0..10_000).map(|_| SystemIds.uuid(at)).collect();
        assert_eq!(ids.len(), 10_000);
        let (mut one, mut two) = ([0u8; 32], [0u8; 32]);
        SystemIds.fill(&mut one);
        SystemIds.fill(&mut two);
        assert_ne!(one, two);
    }
}
