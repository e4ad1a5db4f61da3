//! The lock of a shard.
//!
//! Tests that walk through schedules ([`explore`]) need locks that `shuttle` knows; they get them
//! for all counters made meanwhile. Everybody else has `parking_lot`'s.

#[cfg(test)]
pub(crate) use explored::{Mutex, MutexGuard, explore};
#[cfg(not(test))]
pub(crate) use parking_lot::{Mutex, MutexGuard};

#[cfg(test)]
mod explored {
    use std::cell::Cell;
    use std::ops::{Deref, DerefMut};

    thread_local! {
        static EXPLORING: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs a test in many schedules of its threads, chosen at random. On a failure the schedule
    /// is printed; `shuttle::replay` runs it again.
    pub(crate) fn explore(schedules: usize, test: impl Fn() + Send + Sync + 'static) {
        EXPLORING.set(true);
        shuttle::check_random(test, schedules);
        EXPLORING.set(false);
    }

    #[derive(Debug)]
    pub(crate) enum Mutex<T> {
        Real(parking_lot::Mutex<T>),
        Explored(shuttle::sync::Mutex<T>),
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(held: T) -> Self {
            if EXPLORING.get() {
                Self::Explored(shuttle::sync::Mutex::new(held))
            } else {
                Self::Real(parking_lot::Mutex::new(held))
            }
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            match self {
                Self::Real(lock) => MutexGuard::Real(lock.lock()),
                Self::Explored(lock) => MutexGuard::Explored(lock.lock().unwrap()),
            }
        }
    }

    pub(crate) enum MutexGuard<'a, T> {
        Real(parking_lot::MutexGuard<'a, T>),
        Explored(shuttle::sync::MutexGuard<'a, T>),
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            match self {
                Self::Real(held) => held,
                Self::Explored(held) => held,
            }
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            match self {
                Self::Real(held) => held,
                Self::Explored(held) => held,
            }
        }
    }
}
