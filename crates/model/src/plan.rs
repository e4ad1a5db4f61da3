//! Plans: what is offered.

use crate::{LimitUse, OveragePrice, PeriodBasis, PlanId, PlanPrice, Quota};

/// An offer: limits, quota, scopes, number of keys, price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its name in the catalog.
    pub id: PlanId,
    /// What people see.
    pub name: String,
    /// Raised by one whenever the plan changes; records carry it.
    pub version: u32,
    /// What a period costs.
    pub price: Option<PlanPrice>,
    /// The allowance of units; `None`: unlimited.
    pub quota: Option<Quota>,
    /// What is charged beyond the quota.
    pub overage: Option<OveragePrice>,
    /// Where periods begin.
    pub period: PeriodBasis,
    /// Rate limits.
    pub limits: Vec<LimitUse>,
    /// Scopes that keys of this plan may have; `None`: any.
    pub scopes: Option<Vec<String>>,
    /// Live keys of one subscription at most.
    pub keys_max: Option<u32>,
}
