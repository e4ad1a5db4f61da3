//! What stands in a journal, and what is summed up over it.

pub use tollgate_model::OutcomeTotals;
use tollgate_model::{Charge, Mark, UsageEvent};

/// One entry of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A request ended.
    Event {
        /// The event, final.
        event: UsageEvent,
        /// What its counters were charged.
        charges: Vec<Charge>,
    },
    /// Marks were raised; nothing beyond the old ones was spent before this was written.
    Grant(Vec<Mark>),
    /// A long exchange is still going on. Its event so far, with `units` and `kept` as reserved,
    /// becomes the record if the gateway dies.
    Progress {
        /// The event so far; same id as the final one.
        event: UsageEvent,
        /// What its counters were charged at admission.
        charges: Vec<Charge>,
    },
}
