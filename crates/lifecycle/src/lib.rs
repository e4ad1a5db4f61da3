//! How a process begins, runs and ends.
//!
//! Owns: [`SystemClock`] and [`SystemIds`] (the only readers of the system's clock and random
//! source), [`Supervisor`] (every task has a name, an owner and a policy), [`Phases`] and
//! [`Signals`].
//!
//! Invariants:
//! - ticks never go back, neither within a process nor, through [`tollgate_model::Clock::raise_to`], below
//!   what an earlier process wrote down;
//! - a phase only moves forward;
//! - no task outlives [`Supervisor::shutdown`] unnoticed: what did not end is named.
//!
//! Does not own: what tasks do, and which of them must end first; the binary says so with groups.

mod clock;
mod ids;
mod phase;
mod signals;
mod supervisor;

pub use clock::SystemClock;
pub use ids::SystemIds;
pub use phase::{Phase, Phases};
pub use signals::{Signal, Signals};
pub use supervisor::{
    HARD_GRACE, OnCancel, OnError, ShutdownReport, Stop, Supervisor, TaskError, TaskOutcome,
    TaskSpec,
};
