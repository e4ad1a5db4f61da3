//! Single requests.

use tollgate_model::{EventId, Outcome};
use tollgate_store::{Page, RecordOrder, RecordQuery, StoreErrorKind, UsageRecord};

use crate::question::{Filter, Span};
use crate::{Metering, MeteringError, MeteringResult};

/// Most records of a page.
pub const RECORDS_PAGE_MAX: u32 = 1_000;

/// Which single requests.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordsQuestion {
    /// When.
    pub span: Span,
    /// Whose. A search for single requests finds those of test keys too: `include_test` has no
    /// meaning here, `test` has; whoever asks translates.
    pub filter: Filter,
    /// Only calls of test keys, or only of others.
    pub test: Option<bool>,
    /// Only this one.
    pub id: Option<EventId>,
    /// Only this status.
    pub status: Option<u16>,
    /// Only this outcome.
    pub outcome: Option<Outcome>,
    /// Only from this address, as text.
    pub address: Option<String>,
    /// Only those that took at least so long, in microseconds.
    pub min_latency_us: Option<u64>,
    /// In which order.
    pub order: RecordOrder,
    /// Most records of the page, 1 to [`RECORDS_PAGE_MAX`].
    pub limit: u32,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl RecordsQuestion {
    /// Everything in a span, newest first, 50 a page.
    #[must_use]
    pub fn in_span(span: Span) -> Self {
        Self {
            span,
            filter: Filter::default(),
            test: None,
            id: None,
            status: None,
            outcome: None,
            address: None,
            min_latency_us: None,
            order: RecordOrder::NewestFirst,
            limit: 50,
            cursor: None,
        }
    }

    fn check(&self) -> MeteringResult<()> {
        if !(1..=RECORDS_PAGE_MAX).contains(&self.limit) {
            return Err(MeteringError::invalid(
                "limit",
                format!("a whole number from 1 to {RECORDS_PAGE_MAX}"),
            ));
        }
        if self
            .status
            .is_some_and(|status| !(100..=999).contains(&status))
        {
            return Err(MeteringError::invalid("status", "three digits"));
        }
        Ok(())
    }
}

/// The records that a filter lets through, as the store is asked for them.
pub(crate) fn query_of(span: &Span, filter: &Filter) -> RecordQuery {
    RecordQuery {
        key: filter.key.clone(),
        subscription: filter.subscription.clone(),
        organization: filter.organization.clone(),
        api: filter.api.clone(),
        route: filter.route.clone(),
        plan: filter.plan.clone(),
        ..RecordQuery::in_span(span.from, span.to)
    }
}

impl Metering {
    /// A page of single requests.
    ///
    /// # Errors
    /// `Invalid` for a bad limit, status or cursor; the store's failures.
    pub async fn records(&self, question: &RecordsQuestion) -> MeteringResult<Page<UsageRecord>> {
        question.check()?;
        let query = RecordQuery {
            id: question.id.clone(),
            status: question.status,
            outcome: question.outcome,
            address: question.address.clone(),
            latency_us_min: question.min_latency_us,
            test: question.test,
            order: question.order,
            limit: question.limit,
            cursor: question.cursor.clone(),
            ..query_of(&question.span, &question.filter)
        };
        match self.store.list_records(&query).await {
            Ok(page) => Ok(page),
            Err(error) if error.kind == StoreErrorKind::NotFound => Err(MeteringError::invalid(
                "cursor",
                "not the next_cursor of a page of this list",
            )),
            Err(error) => Err(error.into()),
        }
    }
}
