//! A span and the one before it, with what stands out.

use tollgate_model::{LimitReading, OrganizationId, SubscriptionId};

use super::stats::percentage;
use crate::question::{Filter, Span, Stats, StatsQuestion, TopBy, TopItem, TopQuestion};
use crate::{Metering, MeteringResult};

/// Items of the rankings in a summary.
const SUMMARY_ITEMS: u32 = 5;
/// From so many per cent of its quota on a subscription is near its limit.
const NEAR_PERCENT: f64 = 80.0;
/// Most subscriptions near their limit that are listed.
const NEAR_ITEMS_MAX: usize = 20;

/// A subscription and where its quota stands.
#[derive(Debug, Clone, PartialEq)]
pub struct NearLimit {
    /// Which.
    pub subscription: SubscriptionId,
    /// Whose.
    pub organization: Option<OrganizationId>,
    /// Where its quota stands.
    pub reading: LimitReading,
}

impl NearLimit {
    /// Used, in per cent of the allowance; `None` where it is unlimited.
    #[must_use]
    pub fn percentage(&self) -> Option<f64> {
        percentage(&self.reading)
    }
}

/// A summary of what.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryQuestion {
    /// When.
    pub span: Span,
    /// Whose.
    pub filter: Filter,
    /// Where the quotas of the subscriptions in question stand. Only the gateway knows; those at
    /// 80 per cent and above are in the answer.
    pub quotas: Vec<NearLimit>,
}

/// A summary.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The span asked for.
    pub now: Stats,
    /// The span of the same length before it.
    pub before: Stats,
    /// Routes with most requests.
    pub top_routes: Vec<TopItem>,
    /// Customers with most requests.
    pub top_organizations: Vec<TopItem>,
    /// Subscriptions at 80 per cent of their quota and above, the fullest first.
    pub near_limit: Vec<NearLimit>,
}

impl Metering {
    /// A summary.
    ///
    /// # Errors
    /// As [`Metering::stats`].
    pub async fn summary(&self, question: SummaryQuestion) -> MeteringResult<Summary> {
        let SummaryQuestion {
            span,
            filter,
            quotas,
        } = question;
        let stats = |span: Span| StatsQuestion {
            span,
            filter: filter.clone(),
            quota: None,
        };
        let top = |by: TopBy| TopQuestion {
            span,
            filter: filter.clone(),
            by,
            limit: SUMMARY_ITEMS,
        };
        Ok(Summary {
            now: self.stats(&stats(span)).await?,
            before: self.stats(&stats(span.before())).await?,
            top_routes: self.top(&top(TopBy::Route)).await?.items,
            top_organizations: self.top(&top(TopBy::Organization)).await?.items,
            near_limit: near(quotas),
        })
    }
}

fn near(mut quotas: Vec<NearLimit>) -> Vec<NearLimit> {
    let percent = |quota: &NearLimit| quota.percentage().unwrap_or(0.0);
    quotas.retain(|quota| percent(quota) >= NEAR_PERCENT);
    quotas.sort_by(|a, b| {
        percent(b)
            .total_cmp(&percent(a))
            .then_with(|| a.subscription.cmp(&b.subscription))
    });
    quotas.truncate(NEAR_ITEMS_MAX);
    quotas
}
