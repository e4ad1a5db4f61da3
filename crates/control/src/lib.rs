//! Control: what gateways decide from is read, checked, kept and published here.

pub mod declared;
pub mod document;
mod entry;
mod error;

pub use entry::{Entries, Entry};
pub use error::{ControlError, ControlResult};
