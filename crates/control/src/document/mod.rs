//! Reading what people write: one tree of values for TOML and JSON, and a reader over it that
//! tells every problem at once.
//!
//! **Owns** the tree ([`Document`]) with line and column where the text had them, the accessors
//! ([`Reader`], [`Table`], [`Field`]) and the form of a [`Problem`].
//!
//! **Invariants.** A field that nobody asked for is reported as unknown; reading goes on after a
//! problem, so that one run tells all of them; the tree is never changed by reading.
//!
//! **Does not own** what the fields mean: `declared`, `keys` and the process's configuration do.

mod field;
mod merge;
mod near;
mod problem;
mod reader;
mod table;
mod tree;
mod units;

pub use field::Field;
pub use problem::{Problem, ProblemCode};
pub use reader::{Reader, Step};
pub use table::Table;
pub use tree::{Document, Entry, Node, Position, Value};
pub use units::duration_text;

pub(crate) use merge::merge_patch;
pub(crate) use near::nearest;
pub(crate) use reader::path_text;
pub(crate) use table::snake_case;
pub(crate) use units::check_host;

#[cfg(test)]
mod tests;
