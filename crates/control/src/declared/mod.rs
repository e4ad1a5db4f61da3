//! Catalog objects as people declare them: read from TOML or JSON into the model's types, and
//! written back as JSON, which is both the stored form and the API's.
//!
//! **Owns** the fields of every object, their defaults and ranges, and the checks between objects
//! (references, an address taken twice).
//!
//! **Invariants.** What was read and written back reads as the same object; there is one spelling
//! on the way out; a catalog is only built from objects whose references were checked.
//!
//! **Does not own** who may change what (`objects`, `apply`) or keys.

mod api;
mod customer;
mod file;
mod limit;
mod object;
mod plan;
mod resolve;
mod route;

pub use file::{DeclaredFile, read_file};
pub use object::{Draft, Object, ObjectKey, Source};
pub use resolve::{Fault, Place, build_catalog, check_references};

pub(crate) use limit::{
    inline_limit_document, quota_document, read_inline_limit, read_quota, read_scope,
};
pub(crate) use object::read_object;
pub(crate) use resolve::references;

/// A commented catalog with the shipped plans; what `tollgate init` writes.
pub const EXAMPLE_CATALOG: &str = include_str!("example.toml");

#[cfg(test)]
mod tests;
