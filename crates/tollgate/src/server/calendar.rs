//! Where the periods of a subscription's quota begin and end, as a catalog says.

use anyhow::Context;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tollgate_model::{Catalog, Every, Period, PeriodBasis, Subscription, Timestamp, period_at};

/// Where the periods of a subscription's quota begin and end.
#[derive(Debug, Clone, PartialEq)]
pub struct Calendar {
    every: Every,
    basis: PeriodBasis,
    anchor: Date,
    zone: TimeZone,
}

impl Calendar {
    /// As the catalog says; a plan without a quota is counted by month.
    #[must_use]
    pub fn of(catalog: &Catalog, subscription: &Subscription) -> Option<Self> {
        let plan = catalog.find_plan_of(subscription)?;
        Some(Self {
            every: plan.quota.map_or(Every::Month, |quota| quota.every),
            basis: plan.period,
            anchor: match plan.period {
                PeriodBasis::Calendar => Date::ZERO,
                PeriodBasis::Anniversary => subscription.started_on,
            },
            zone: subscription.time_zone.clone(),
        })
    }

    /// The same for a quota of another length: a key's own.
    #[must_use]
    pub fn every(self, every: Every) -> Self {
        Self { every, ..self }
    }

    /// The period that holds an instant.
    ///
    /// # Errors
    /// Beyond the calendar's ten thousand years.
    pub fn at(&self, at: Timestamp) -> anyhow::Result<Period> {
        let period = period_at(at, self.every, self.basis, self.anchor, &self.zone);
        period.context("the time is beyond the calendar")
    }
}
