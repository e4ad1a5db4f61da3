//! Questions about usage, and their answers.
//!
//! **Owns** the typed questions, which source answers each of them exactly and cheapest, and the
//! numbers that are derived from sums (rates, percentiles, classes).
//!
//! **How a span is covered.** Whole UTC days and hours come from their buckets, what is left from
//! minute buckets while they are kept, the rest from single records ([`MeteringError::TooMuch`]
//! beyond a bound). Which family of buckets can answer depends on the filters:
//!
//! | filters set | answered by |
//! |---|---|
//! | none, or api | api (and route, for minutes) |
//! | organization, subscription, route, plan | route |
//! | key, with none of route and plan | key (percentiles from records) |
//! | key together with route or plan | records |
//! | grouped by status, country or label, with none of key, route, plan | that family |
//! | grouped by them with one of these; grouped by address | records |
//!
//! Test keys are left out unless [`Filter::include_test`] says otherwise.
//!
//! [`MeteringError::TooMuch`]: crate::MeteringError::TooMuch

pub(crate) mod gather;
mod latency;
mod pieces;
mod records;
mod span;
mod stats;
mod summary;
mod top;
mod trends;

use tollgate_model::{ApiId, KeyId, OrganizationId, PlanId, SubscriptionId};

pub use latency::{HistogramBin, Latency};
pub use records::{RECORDS_PAGE_MAX, RecordsQuestion};
pub use span::{Span, SpanInput};
pub use stats::{Classes, QuotaStanding, Stats, StatsQuestion};
pub use summary::{NearLimit, Summary, SummaryQuestion};
pub use top::{TOP_ITEMS_MAX, Top, TopBy, TopItem, TopQuestion};
pub use trends::{
    Every, GROUPED_POINTS_MAX, GROUPS_MAX, GroupBy, POINTS_MAX, Point, TrendsQuestion,
};

/// Whose usage is meant. All conditions that are set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only this subscription's.
    pub subscription: Option<SubscriptionId>,
    /// Only this customer's.
    pub organization: Option<OrganizationId>,
    /// Only calls of this API.
    pub api: Option<ApiId>,
    /// Only calls with this key.
    pub key: Option<KeyId>,
    /// Only calls of this route, by its template.
    pub route: Option<String>,
    /// Only calls under this plan.
    pub plan: Option<PlanId>,
    /// Whether calls of test keys are among them.
    pub include_test: bool,
}

/// How a group is shown whose events do not have what they are grouped by: calls without a key,
/// without a customer, from an unknown country. No id can have this form.
pub const UNNAMED: &str = "(none)";
