//! One node, one thread, one seed: the promises under every fault, in every order.
//!
//! **Owns** the simulation of a gateway with its journal, its counters and its shipper, of the
//! machine they run on (clock, disk, kernel) and of the platform's store, and the naive account of
//! what happened that they are held against.
//!
//! ```text
//!          seed ──► dice ──► steps: call, answer, hang up, sync, checkpoint, ship, purge, change the
//!                             │     catalog, revoke; time jumps, wall clock set or frozen; disk fails,
//!                             │     tears, fills; store refuses, hides its answer; kill, power cut, stop
//!                             ▼
//!   clock ──► gateway by hand ──► journal ──► faulty disk     shipper ──► shelf (store with weather)
//!                  │ admitted, refused, acknowledged                          │ records
//!                  └──────────────────────► truth ◄──────────────────────────┘
//! ```
//!
//! **What is the product's own**: the gate (look-up, limits, grants, refusals), ends and their
//! records, checkpoints, recovery, the journal, the shipper, the fold. **What is not**: HTTP, the
//! upstream's connection, sockets, threads, timers; the store is the in-memory model.
//!
//! **Invariants.** Everything follows from the seed. The module `truth` shares no rule with the product.
//! Phases of faults (safety: nothing wrong ever happens) and of calm (liveness: everything drains,
//! sums agree, a fresh request passes) take turns.

mod calm;
mod clock;
mod dice;
mod life;
mod market;
mod request;
mod shelf;
mod steps;
mod tally;
mod trouble;
mod truth;
mod world;

use std::fmt;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// Steps.
    pub steps: u64,
    /// Keep what happened, told with a violation.
    pub trace: bool,
}

/// What happened in a run that broke no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Steps.
    pub operations: u64,
    /// Requests that passed the gate.
    pub admitted: u64,
    /// Requests that did not.
    pub refused: u64,
    /// Records that reached the store.
    pub delivered: u64,
    /// Processes killed.
    pub kills: u64,
    /// Starts that died.
    pub stillborn: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Ends that a power cut may have taken, within the span that the next start told.
    pub excused: u64,
    /// Orderly stops.
    pub stops: u64,
    /// Phases of calm in which everything drained and every sum agreed.
    pub calms: u64,
    /// Of all that happened: equal for equal runs.
    pub digest: u64,
}

impl Report {
    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.admitted += other.admitted;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.kills += other.kills;
        self.stillborn += other.stillborn;
        self.power_cuts += other.power_cuts;
        self.excused += other.excused;
        self.stops += other.stops;
        self.calms += other.calms;
        self.digest = self.digest.rotate_left(5) ^ other.digest;
    }
}

/// A promise was broken.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which run.
    pub seed: u64,
    /// At which step.
    pub step: u64,
    /// What is wrong.
    pub what: String,
    /// What happened before, where it was kept.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(
            f,
            "seed {} broke at step {}: {}",
            self.seed, self.step, self.what
        )?;
        write!(
            f,
            "replay: TOLLGATE_SIM_SEED={} TOLLGATE_SIM_STEPS={} cargo test -p tollgate-simulator \
             --test seeds replay -- --nocapture",
            self.seed,
            self.step + 1
        )
    }
}

impl std::error::Error for Violation {}

/// Runs one seed.
///
/// # Errors
/// [`Violation`] at the first broken promise.
pub fn run(options: &Options) -> Result<Report, Box<Violation>> {
    let mut world = world::World::new(options);
    world.run().map_err(|what| Box::new(world.violation(what)))
}
