//! The handle that questions are asked of.

use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use tollgate_model::{Clock, Every, KeyId, PeriodBasis, SubscriptionId, Timestamp, period_at};
use tollgate_store::{PeriodScope, UsageStore};

use crate::question::{Filter, Span};
use crate::{MeteringError, MeteringResult};

/// Most single records that one answer is summed up from.
const RECORDS_MAX: usize = 250_000;
/// Most single records that are read for a part of an answer that it can do without.
const DETAILS_MAX: usize = 50_000;

/// Answers questions about usage. Cheap to clone.
#[derive(Clone)]
pub struct Metering {
    pub(crate) store: Arc<dyn UsageStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) records_max: usize,
    pub(crate) details_max: usize,
}

/// Units at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageTotals {
    /// Since midnight in the subscription's zone.
    pub today: u64,
    /// Since the quota period began; `None` without a quota.
    pub period: Option<u64>,
    /// Ever.
    pub total: u64,
}

impl Metering {
    /// Over a store.
    #[must_use]
    pub fn new(store: Arc<dyn UsageStore>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            records_max: RECORDS_MAX,
            details_max: DETAILS_MAX,
        }
    }

    /// With other bounds on how many single records one answer may read: for all that needs them,
    /// and for details that it can do without.
    #[must_use]
    pub fn with_bounds(self, records_max: usize, details_max: usize) -> Self {
        Self {
            records_max,
            details_max,
            ..self
        }
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// What a key has used. `zone` and `period_start` are its subscription's.
    ///
    /// # Errors
    /// As [`Metering::stats`].
    pub async fn usage_of_key(
        &self,
        key: &KeyId,
        zone: &TimeZone,
        period_start: Option<Timestamp>,
    ) -> MeteringResult<UsageTotals> {
        let filter = Filter {
            key: Some(key.clone()),
            include_test: true,
            ..Filter::default()
        };
        let period = match period_start {
            Some(start) => Some(self.units_since(start, &filter).await?),
            None => None,
        };
        Ok(UsageTotals {
            today: self.units_since(self.midnight(zone)?, &filter).await?,
            period,
            total: self.total_of(&PeriodScope::Key(key.clone())).await?,
        })
    }

    /// What a subscription has used. `period_start` is that of its quota's present period.
    ///
    /// # Errors
    /// As [`Metering::stats`].
    pub async fn usage_of_subscription(
        &self,
        id: &SubscriptionId,
        zone: &TimeZone,
        period_start: Option<Timestamp>,
    ) -> MeteringResult<UsageTotals> {
        let filter = Filter {
            subscription: Some(id.clone()),
            include_test: true,
            ..Filter::default()
        };
        let scope = PeriodScope::Subscription(id.clone());
        let period = match period_start {
            Some(start) => Some(self.store.period_units(&scope, start).await?),
            None => None,
        };
        Ok(UsageTotals {
            today: self.units_since(self.midnight(zone)?, &filter).await?,
            period,
            total: self.total_of(&scope).await?,
        })
    }

    /// Σ units of a subscription's events of `[from, to)`, test keys' among them, whatever period
    /// they were charged to. However many single records lie in parts of an hour at its ends: what
    /// refuses calls rests on the answer, so it must come.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn units_of_subscription(
        &self,
        id: &SubscriptionId,
        from: Timestamp,
        to: Timestamp,
    ) -> MeteringResult<u64> {
        if from >= to {
            return Ok(0);
        }
        let filter = Filter {
            subscription: Some(id.clone()),
            include_test: true,
            ..Filter::default()
        };
        let unbounded = self.clone().with_bounds(usize::MAX, usize::MAX);
        let sums = unbounded.whole(&Span::exact(from, to)?, &filter).await?;
        Ok(sums.counts.units)
    }

    async fn total_of(&self, scope: &PeriodScope) -> MeteringResult<u64> {
        Ok(self.store.total_units(scope).await?)
    }

    async fn units_since(&self, start: Timestamp, filter: &Filter) -> MeteringResult<u64> {
        let now = self.clock.now().wall;
        let span = Span::last(now.since(start).max(1), now);
        let span = Span {
            from: start,
            exact_from: true,
            ..span
        };
        Ok(self.whole(&span, filter).await?.counts.units)
    }

    fn midnight(&self, zone: &TimeZone) -> MeteringResult<Timestamp> {
        let now = self.clock.now().wall;
        period_at(now, Every::Day, PeriodBasis::Calendar, Date::ZERO, zone)
            .map(|day| day.start)
            .map_err(|error| MeteringError::invalid("time_zone", error.to_string()))
    }
}
