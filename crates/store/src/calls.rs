//! Calls under an idempotency key: claimed before they act, done with their act, answered after it.
//!
//! ```text
//!           claim               commit with Effects.call          finish (answer)
//!  (none) ---------> claimed ------------------------------> done ---------------> answered
//!     ^                 |  \________________________________________finish___________/
//!     |____ release ____|
//! ```
//!
//! **Invariants.** A call acts at most once: an attempt that lost its claim to a later one cannot
//! commit (`Conflict` about [`Entity::Call`](crate::Entity)), and a call that is done is never
//! granted again while it is remembered. A claim whose process died before its act holds nobody
//! up: the next attempt takes it over, at once and without a timeout, because a claim that is not
//! done has changed nothing.

use async_trait::async_trait;
use tollgate_model::Timestamp;

use crate::StoreResult;

/// Names a call: a digest of who called and of the idempotency key, which is not kept itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub [u8; 32]);

/// One attempt at a call; a later attempt has another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallAttempt {
    /// The call.
    pub call: CallId,
    /// Unlike that of every other attempt.
    pub attempt: u128,
}

/// What an act tells about the call that it belongs to; commits with the act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallDone {
    /// Whose act it is.
    pub attempt: CallAttempt,
    /// What was done, in words without secrets, such as `key.create key_…`.
    pub did: String,
}

/// Asks to make a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallClaim {
    /// Who asks.
    pub attempt: CallAttempt,
    /// Digest of the request: another one under the same key is refused.
    pub of: [u8; 32],
    /// Now.
    pub at: Timestamp,
    /// Calls claimed before this are forgotten first.
    pub forget_before: Timestamp,
    /// Most calls remembered at a time.
    pub calls_max: u32,
    /// Once the bodies of the answers have this many bytes together, no further call is granted.
    pub bytes_max: u64,
}

/// What a claim is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Go on.
    Granted,
    /// The key belongs to another request.
    OtherRequest,
    /// It was done before, and was answered like this.
    Answered(SavedAnswer),
    /// It was done before, and its answer was not kept.
    Done {
        /// [`CallDone::did`].
        did: String,
    },
    /// No more calls can be remembered now.
    Full,
}

/// An answer as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedAnswer {
    /// HTTP status.
    pub status: u16,
    /// Header `Content-Type`.
    pub content_type: Option<String>,
    /// Header `Location`.
    pub location: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Calls under an idempotency key.
#[async_trait]
pub trait CallStore: Send + Sync {
    /// Forgets what is old, then claims the call or tells how it ended before.
    async fn claim_call(&self, claim: CallClaim) -> StoreResult<Claimed>;

    /// Notes that the call is done, and its answer where it may be kept. What its act said that it
    /// did holds; `done.did` is taken when there was no act.
    ///
    /// # Errors
    /// `Conflict` when the claim is no longer this attempt's. Nothing is changed then.
    async fn finish_call(&self, done: CallDone, answer: Option<SavedAnswer>) -> StoreResult<()>;

    /// Gives up the claim of a call that did nothing. Without effect when it is done, or no longer
    /// this attempt's.
    async fn release_call(&self, attempt: CallAttempt) -> StoreResult<()>;
}
