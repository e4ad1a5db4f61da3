//! Units used by a key or subscription, at a glance.

use serde::Serialize;
use serde_json::{Value, json};
use tollgate_metering::UsageTotals;
use tollgate_model::{Every, Subscription, Timestamp, period_at};
use utoipa::ToSchema;

use crate::state::ApiState;

/// Units used.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Usage {
    /// Since midnight in the subscription's time zone.
    pub today: u64,
    /// Since the quota's period began; without a quota, since the month did.
    pub period: Option<u64>,
    /// Ever.
    pub total: u64,
}

impl Usage {
    /// Shows totals.
    pub fn of(totals: &UsageTotals) -> Self {
        Self {
            today: totals.today,
            period: totals.period,
            total: totals.total,
        }
    }

    /// As a field of a larger document.
    pub fn to_json(self) -> Value {
        json!({ "today": self.today, "period": self.period, "total": self.total })
    }
}

/// Start of the present period of the subscription's quota. A plan without one is counted by
/// month all the same.
pub fn period_start(state: &ApiState, subscription: &Subscription) -> Option<Timestamp> {
    let catalog = state.control().catalog();
    let plan = catalog.find_plan_of(subscription)?;
    let every = plan.quota.as_ref().map_or(Every::Month, |q| q.every);
    let now = state.clock().now().wall;
    period_at(
        now,
        every,
        plan.period,
        subscription.started_on,
        &subscription.time_zone,
    )
    .ok()
    .map(|period| period.start)
}
