//! Statistics of a span.

use std::collections::BTreeMap;

use tollgate_model::{LimitReading, Timestamp, UsageEvent};

use super::gather::{By, Gather, Sums, Table, levels_for};
use super::latency::histogram;
use crate::question::{Filter, HistogramBin, Latency, Span};
use crate::{Metering, MeteringError, MeteringResult};

const DAY_US: f64 = 86_400_000_000.0;

/// Statistics of what.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsQuestion {
    /// When.
    pub span: Span,
    /// Whose.
    pub filter: Filter,
    /// Where the quota stands, when one subscription is asked for. Only the gateway knows; it is
    /// handed through into the answer.
    pub quota: Option<LimitReading>,
}

/// Requests that did not go well, by whose doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Classes {
    /// The caller's: the upstream answered 4xx, or the caller left early (499).
    pub caller: u64,
    /// Refused at the gate: key, scope, state, limit.
    pub refused: u64,
    /// The upstream's: 5xx from it, or it could not be reached or broke off.
    pub upstream: u64,
    /// Ours: refused with 5xx, because we were overloaded, full or out of date.
    pub ours: u64,
    /// The upstream was too slow (504).
    pub timeout: u64,
}

/// Where a quota stands.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaStanding {
    /// The allowance; `None`: unlimited.
    pub limit: Option<u64>,
    /// Units used.
    pub used: u64,
    /// Units left.
    pub remaining: Option<u64>,
    /// Used, in per cent of the allowance.
    pub percentage: Option<f64>,
    /// The period's end.
    pub resets_at: Option<Timestamp>,
}

/// Statistics.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// All requests, refused ones too.
    pub requests: u64,
    /// Units charged.
    pub units: u64,
    /// Refused at the gate.
    pub denied: u64,
    /// Status 400 and above that we did not refuse.
    pub errors: u64,
    /// Of these, 400 to 499.
    pub client_errors: u64,
    /// Of these, 500 and above.
    pub server_errors: u64,
    /// `errors` / (`requests` − `denied`); 0 where there were none.
    pub error_rate: f64,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// Latencies of forwarded requests.
    pub latency: Latency,
    /// Their distribution; empty where only counts are kept.
    pub latency_histogram: Vec<HistogramBin>,
    /// Requests by status; `None` where too many single requests would have to be read for it.
    pub by_status: Option<BTreeMap<u16, u64>>,
    /// Requests that did not go well; `None` likewise.
    pub by_class: Option<Classes>,
    /// `by_status` and `by_class` cover the span grown to whole hours, because too many single
    /// requests would have to be read otherwise.
    pub statuses_in_whole_hours: bool,
    /// Requests by day, over the length of the span.
    pub average_per_day: f64,
    /// Where the quota stands.
    pub quota: Option<QuotaStanding>,
}

impl QuotaStanding {
    /// From the gateway's reading.
    #[must_use]
    pub fn of(reading: &LimitReading) -> Self {
        Self {
            limit: reading.limit,
            used: reading.used,
            remaining: reading.remaining,
            percentage: percentage(reading),
            resets_at: reading.resets_at,
        }
    }
}

/// Used, in per cent of the allowance; `None` where it is unlimited.
pub(crate) fn percentage(reading: &LimitReading) -> Option<f64> {
    reading.limit.map(|limit| match (reading.used, limit) {
        (_, 0) => 100.0,
        (used, limit) => used as f64 * 100.0 / limit as f64,
    })
}

/// What the breakdown by status and the distribution of latencies are made from.
struct Details {
    statuses: BTreeMap<u16, Sums>,
    in_whole_hours: bool,
}

impl Metering {
    /// Statistics of a span.
    ///
    /// # Errors
    /// `TooMuch` when the filters leave single records as the only source of the counts, and there
    /// are too many; the store's failures.
    pub async fn stats(&self, question: &StatsQuestion) -> MeteringResult<Stats> {
        let (span, filter) = (&question.span, &question.filter);
        let now = self.clock.now().wall;
        let mut records = None;
        if levels_for(filter, By::Whole, now).is_empty() {
            // Only records can answer: one pass serves counts and statuses.
            records = Some(
                self.by_status_from_records(span, filter, self.records_max)
                    .await?,
            );
        }
        let mut sums = match &records {
            Some(statuses) => sum_of(statuses),
            None => self.whole(span, filter).await?,
        };
        let statuses_kept = !levels_for(filter, By::Status, now).is_empty();
        let few = usize::try_from(sums.counts.requests).is_ok_and(|n| n <= self.details_max);
        if records.is_none() && few && (!statuses_kept || sums.sketch().is_none()) {
            records = self.optional(span, filter).await?;
        }
        if let Some(statuses) = &records {
            let from_records = sum_of(statuses);
            // Traffic may have gone on between the two readings: counts and latencies of one
            // answer come from the same one.
            sums = from_records;
        }
        let details = match records {
            Some(statuses) => Some(Details {
                statuses,
                in_whole_hours: false,
            }),
            None if statuses_kept => Some(self.by_status_from_buckets(span, filter).await?),
            None => None,
        };
        Ok(answer(question, &sums, details))
    }

    /// Counts and latencies of a span.
    pub(crate) async fn whole(&self, span: &Span, filter: &Filter) -> MeteringResult<Sums> {
        let table = self
            .gather(&Gather {
                bounds: &[span.from, span.to],
                filter,
                by: By::Whole,
                names: None,
                records_max: self.records_max,
            })
            .await?;
        Ok(table.into_values().next().unwrap_or_default())
    }

    async fn by_status_from_records(
        &self,
        span: &Span,
        filter: &Filter,
        records_max: usize,
    ) -> MeteringResult<BTreeMap<u16, Sums>> {
        let mut statuses: BTreeMap<u16, Sums> = BTreeMap::new();
        let mut left = records_max;
        self.each_record(span, filter, &mut left, |event: &UsageEvent| {
            statuses.entry(event.status).or_default().add_event(event);
        })
        .await?;
        Ok(statuses)
    }

    /// The same where the answer can do without.
    async fn optional(
        &self,
        span: &Span,
        filter: &Filter,
    ) -> MeteringResult<Option<BTreeMap<u16, Sums>>> {
        match self
            .by_status_from_records(span, filter, self.details_max)
            .await
        {
            Ok(statuses) => Ok(Some(statuses)),
            Err(MeteringError::TooMuch { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    async fn by_status_from_buckets(
        &self,
        span: &Span,
        filter: &Filter,
    ) -> MeteringResult<Details> {
        let ask = |span: Span| async move {
            self.gather(&Gather {
                bounds: &[span.from, span.to],
                filter,
                by: By::Status,
                names: None,
                records_max: self.details_max,
            })
            .await
        };
        let (table, in_whole_hours) = match ask(*span).await {
            Err(MeteringError::TooMuch { .. }) => (ask(span.in_whole_hours()).await?, true),
            other => (other?, false),
        };
        Ok(Details {
            statuses: statuses_of(table),
            in_whole_hours,
        })
    }
}

fn statuses_of(table: Table) -> BTreeMap<u16, Sums> {
    table
        .into_iter()
        .filter_map(|((_, name), sums)| name.parse().ok().map(|status| (status, sums)))
        .collect()
}

fn sum_of(statuses: &BTreeMap<u16, Sums>) -> Sums {
    let mut sum = Sums::default();
    for sums in statuses.values() {
        sum.add(sums);
    }
    sum
}

fn classes_of(statuses: &BTreeMap<u16, Sums>) -> Classes {
    let mut classes = Classes::default();
    for (status, sums) in statuses {
        let counts = &sums.counts;
        classes.caller += counts.client_errors;
        if *status == 504 {
            classes.timeout += counts.server_errors;
        } else {
            classes.upstream += counts.server_errors;
        }
        if *status >= 500 {
            classes.ours += counts.denied;
        } else {
            classes.refused += counts.denied;
        }
    }
    classes
}

fn answer(question: &StatsQuestion, sums: &Sums, details: Option<Details>) -> Stats {
    let counts = &sums.counts;
    let passed = counts.requests.saturating_sub(counts.denied);
    let error_rate = match passed {
        0 => 0.0,
        passed => counts.errors as f64 / passed as f64,
    };
    Stats {
        requests: counts.requests,
        units: counts.units,
        denied: counts.denied,
        errors: counts.errors,
        client_errors: counts.client_errors,
        server_errors: counts.server_errors,
        error_rate,
        bytes_in: counts.bytes_in,
        bytes_out: counts.bytes_out,
        latency: Latency::of(sums),
        latency_histogram: sums.sketch().map(histogram).unwrap_or_default(),
        statuses_in_whole_hours: details.as_ref().is_some_and(|found| found.in_whole_hours),
        by_class: details.as_ref().map(|found| classes_of(&found.statuses)),
        by_status: details.map(|found| {
            found
                .statuses
                .into_iter()
                .map(|(status, sums)| (status, sums.counts.requests))
                .collect()
        }),
        average_per_day: counts.requests as f64 * DAY_US / question.span.length_us.max(1) as f64,
        quota: question.quota.as_ref().map(QuotaStanding::of),
    }
}
