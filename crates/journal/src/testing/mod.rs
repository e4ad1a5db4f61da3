//! For tests of this and other crates: a faulty filesystem in memory, a clock moved by hand, ids
//! that count, and sample events. Not part of what runs.

mod faulty;
mod mount;
mod parts;
mod samples;

pub use faulty::{Fault, FaultyDisk, PowerCut};
pub use samples::{CountingIds, ManualClock, charge, event, full_event, mark};
