//! The gate's decision, as pure functions: which limits apply to a request, whether they admit
//! it, what it is charged in the end, and what its headers say.
//!
//! **Owns** the arithmetic of sliding windows ([`Window`]), which counters a caller's limits and
//! quotas mean ([`LimitTerms`], [`CompiledLimits`]), all-or-nothing decisions ([`decide()`]), refusals and the
//! values of the rate-limit headers ([`HeaderValues`]), and the charging rules ([`charge()`]).
//!
//! **Invariants.** Nothing here waits, locks, reads a clock or keeps state between calls. A
//! window never forgets a unit before its span is over and keeps it at most a sixtieth longer.
//! Every refusal tells the truth about when the same call would pass, or says nothing.
//!
//! **Does not own** the counters (`counters`), who the caller is and whether the key may be used
//! (`gateway`), or how a refusal looks as JSON.

mod address;
mod applicable;
mod charge;
mod compile;
mod decide;
mod headers;
mod name;
mod text;
mod window;

pub use address::Address;
pub use applicable::{Applicable, Enforcement, Limits, Rule};
pub use charge::{Cost, Ended, Kept, charge, parse_stated_cost};
pub use compile::{
    AddressHold, Caller, CompiledLimits, KeyTerms, KnownScopes, LimitTerms, scope_of,
};
pub use decide::{Reading, Readings, Refusal, Verdict, decide, describe};
pub use headers::{GivenBack, HeaderValues, LeastLeft, Tightest, policy_text};
pub use name::{Length, LimitName};
pub use text::{Text, decimal, whole_seconds};
pub use window::{SLOTS_PER_SPAN, Window, slot_at, slot_expires_at};
