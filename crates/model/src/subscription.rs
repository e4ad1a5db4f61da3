//! Customers and what they bought.

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::{ApiId, OrganizationId, PlanId, SubscriptionId, Timestamp};

/// A customer account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its name in the catalog.
    pub id: OrganizationId,
    /// What people see.
    pub name: String,
}

/// Where a subscription stands. The gateway obeys it; billing will move it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubscriptionState {
    /// Not yet paid for; served.
    Trialing,
    /// Served.
    Active,
    /// Payment is late; served until its grace ends.
    PastDue,
    /// Refused with 402.
    Suspended,
    /// Refused with 403, for good.
    Cancelled,
}

impl SubscriptionState {
    /// Every state.
    pub const ALL: [Self; 5] = [
        Self::Trialing,
        Self::Active,
        Self::PastDue,
        Self::Suspended,
        Self::Cancelled,
    ];

    /// As it stands in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trialing => "trialing",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Suspended => "suspended",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the API's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// Who bought which plan for which APIs. One quota counts over all its APIs and keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its name in the catalog.
    pub id: SubscriptionId,
    /// Who bought it.
    pub organization: OrganizationId,
    /// What it may call.
    pub apis: Vec<ApiId>,
    /// What it bought.
    pub plan: PlanId,
    /// Its days, weeks and months are civil time here.
    pub time_zone: TimeZone,
    /// Anchor of anniversary periods.
    pub started_on: Date,
    /// Where it stands.
    pub state: SubscriptionState,
    /// When it was made.
    pub created_at: Timestamp,
}
