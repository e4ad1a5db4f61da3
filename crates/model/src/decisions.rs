//! Asking for a decision without sending a request: how the platform's API reaches the gateway's
//! own admission, so that both answer alike.

use std::net::IpAddr;
use std::sync::Arc;

use crate::{DenialCode, KeyId, OrganizationId, Period, PlanId, SubscriptionId, Timestamp};

/// Who asks.
#[derive(Debug, Clone)]
pub enum CheckRequest {
    /// The caller presented this credential.
    Credential {
        /// As presented; hashed at once.
        secret: String,
        /// Units that a call would cost.
        units: u64,
        /// Where the caller is, for limits by address and allow-lists.
        address: Option<IpAddr>,
    },
    /// The operator asks about a subscription.
    Subscription {
        /// Which.
        id: SubscriptionId,
        /// Units that a call would cost.
        units: u64,
    },
    /// The operator asks about a key, whatever its state.
    Key {
        /// Which.
        id: KeyId,
        /// Units that a call would cost.
        units: u64,
    },
}

/// Where one limit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReading {
    /// Such as `month-subscription`.
    pub name: Arc<str>,
    /// The allowance; `None`: unlimited.
    pub limit: Option<u64>,
    /// Units counted now.
    pub used: u64,
    /// Units left.
    pub remaining: Option<u64>,
    /// When `remaining` next grows.
    pub resets_at: Option<Timestamp>,
    /// The period, for quotas; `None` for windows.
    pub period: Option<Period>,
    /// Counted, never refused.
    pub shadow: bool,
}

/// What the gate would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckAnswer {
    /// Whether a call would pass.
    pub allowed: bool,
    /// Why not.
    pub code: Option<DenialCode>,
    /// Name of the limit that refuses.
    pub limit: Option<Arc<str>>,
    /// Whole seconds until the same call would pass, if it ever would.
    pub retry_after_s: Option<u64>,
    /// Who the credential belongs to.
    pub key: Option<KeyId>,
    /// Whose quota it is.
    pub subscription: Option<SubscriptionId>,
    /// The customer.
    pub organization: Option<OrganizationId>,
    /// The plan in force.
    pub plan: Option<PlanId>,
    /// Every limit that does not stand on a route, quotas first.
    pub limits: Vec<LimitReading>,
}

/// The gateway's admission, asked from elsewhere. Consumes nothing.
pub trait Decisions: Send + Sync {
    /// Whether a call would pass, and where every limit stands.
    fn check(&self, request: &CheckRequest) -> CheckAnswer;
}
