//! Grants: how far a counter may be spent before the next mark is written down.
//!
//! A mark is one journal append for all counters of a request, so grants are large while much is
//! left and small near the limit: what a kill can cost is one grant a counter. Quotas that refuse
//! nobody need none.

use std::fmt;

use tollgate_admission::Applicable;
use tollgate_model::Mark;

/// The largest grant in units, but for single requests that cost more.
pub const GRANT_UNITS_MAX: u64 = 1_024;

/// A grant is this part of what is left.
const PART_OF_LEFT: u64 = 64;

/// There was no room to write a mark down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantRefused;

impl fmt::Display for GrantRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no room to write down what counters may spend")
    }
}

impl std::error::Error for GrantRefused {}

/// Where marks are written down.
pub trait GrantLog {
    /// Writes all marks of one request, as one append that survives the process from the moment
    /// it returns. Called under the locks of the counters' shards: it must not wait for anything
    /// that waits for a counter.
    ///
    /// # Errors
    /// [`GrantRefused`] where there is no room; the request is then refused and charged nothing.
    fn grant(&mut self, marks: &[Mark]) -> Result<(), GrantRefused>;
}

/// Whether what the counter may spend must be written down first. A quota that refuses nobody is
/// what was recorded: after a kill nothing is held on suspicion, which its customer would see as
/// used.
pub(crate) fn needs_mark(limit: &Applicable) -> bool {
    !limit.is_quota() || limit.ceiling().is_some()
}

/// The units to grant a counter that cannot pay `cost` from its mark.
pub(crate) fn grant_units(limit: &Applicable, counted: u64, cost: u64) -> u64 {
    let share = limit.ceiling().map_or(GRANT_UNITS_MAX, |ceiling| {
        ceiling.saturating_sub(counted) / PART_OF_LEFT
    });
    share.clamp(1, GRANT_UNITS_MAX).max(cost)
}
