//! Control: what gateways decide from is read, checked, kept and published here.
//!
//! **Owns** declarations (`catalog.toml` and JSON) and the checks between catalog objects, the
//! difference between a file and what is there, objects over the API, API keys, access tokens,
//! and the check that a store is used with one pepper.
//!
//! **Invariants.** A change is decided on one number of the catalog, committed with it together
//! with its audit rows, and published before it is answered: who sees success can rely on this
//! process's gateways deciding by it. A broken file or a broken stored catalog never replaces the
//! last good one. Secrets are answered once, when they are made, and stored only as hashes.
//!
//! **Does not own** SQL, HTTP, statuses, decisions on requests, or usage.

mod actor;
mod apply;
mod change;
pub mod declared;
pub mod document;
mod entry;
mod error;
mod keys;
mod objects;
mod pepper;
mod service;
#[cfg(test)]
mod testing;
mod tokens;

pub use actor::Actor;
pub use apply::{AppliedChange, ApplyOptions, ApplyReport, FieldChange, check_catalog};
pub use declared::{EXAMPLE_CATALOG, Object, ObjectKey};
pub use document::{Problem, ProblemCode};
pub use entry::Entry;
pub use error::{ControlError, ControlResult};
pub use keys::{CreatedKey, KeyView};
pub use objects::{ObjectFilter, object_json};
pub use service::Control;
pub use tokens::{CreatedToken, Principal, TOKEN_SCOPES, Tokens};

impl Control {
    /// Who presents this access token; see [`Tokens::authenticate`].
    ///
    /// # Errors
    /// `Store`.
    pub async fn authenticate(&self, presented: &str) -> ControlResult<Option<Principal>> {
        self.tokens().authenticate(presented).await
    }
}
