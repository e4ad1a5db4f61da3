//! Sums over cells of time and groups: the one way in which every question is answered.
//!
//! A question says where its cells begin and end, what it filters and groups by; [`Metering::gather`]
//! picks the family of buckets that can answer, cuts the span into pieces, reads each from its
//! source and adds what it finds to the cell and group it belongs to.

use std::collections::{HashMap, HashSet};

use tollgate_model::{
    BucketKey, Counts, Family, Grain, LatencySketch, Outcome, Timestamp, UsageBucket, UsageEvent,
};
use tollgate_store::{BucketQuery, RecordOrder};

use super::pieces::{Level, Piece, Source, pieces};
use super::records::query_of;
use crate::fold::{OTHER, country_name, key_name};
use crate::question::{Filter, Span};
use crate::retain::minutes_kept_from;
use crate::{Metering, MeteringError, MeteringResult};

/// Records of one page while an answer is summed up.
const RECORDS_CHUNK: u32 = 5_000;
/// Buckets of so many spans are read at once where each start matters.
const SPANS_CHUNK: i64 = 240;

/// What an answer is grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By<'a> {
    Whole,
    Route,
    Key,
    Organization,
    Plan,
    Status,
    Country,
    Label(&'a str),
    Address,
}

/// What to sum up.
pub(crate) struct Gather<'a> {
    /// Neighbouring bounds enclose a cell; rising, at least two.
    pub(crate) bounds: &'a [Timestamp],
    pub(crate) filter: &'a Filter,
    pub(crate) by: By<'a>,
    /// Only these groups are told apart; the rest is `other`.
    pub(crate) names: Option<&'a HashSet<String>>,
    /// Most single records that may be read.
    pub(crate) records_max: usize,
}

/// Sums of one cell and group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    pub(crate) counts: Counts,
    latency: LatencySketch,
    /// Latencies that came without a sketch.
    unsketched: u64,
}

/// Sums by number of the cell and name of the group (empty: unnamed, or not grouped).
pub(crate) type Table = HashMap<(usize, String), Sums>;

impl Sums {
    /// The distribution, where every latency is in it.
    pub(crate) fn sketch(&self) -> Option<&LatencySketch> {
        (self.unsketched == 0).then_some(&self.latency)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.latency.merge(&other.latency);
        self.unsketched += other.unsketched;
    }

    fn add_bucket(&mut self, bucket: &UsageBucket) {
        self.counts.add(&bucket.counts);
        match &bucket.latency {
            Some(latency) => self.latency.merge(latency),
            None => self.unsketched += bucket.counts.latencies,
        }
    }

    pub(crate) fn add_event(&mut self, event: &UsageEvent) {
        self.counts.add(&Counts::of(event));
        if event.outcome == Outcome::Forwarded {
            self.latency.add(event.latency_us);
        }
    }
}

/// The buckets that can answer, coarsest first; none: only records can.
pub(crate) fn levels_for(filter: &Filter, by: By<'_>, now: Timestamp) -> Vec<Level> {
    let level = |family, grain| Level {
        family,
        grain,
        kept_from: match grain {
            Grain::Minute => minutes_kept_from(now),
            Grain::Hour | Grain::Day => Timestamp(i64::MIN / 2),
        },
    };
    match family_for(filter, by) {
        Some(Family::Api) => vec![
            level(Family::Api, Grain::Day),
            level(Family::Api, Grain::Hour),
            level(Family::Route, Grain::Minute),
        ],
        Some(Family::Route) => vec![
            level(Family::Route, Grain::Hour),
            level(Family::Route, Grain::Minute),
        ],
        Some(family) => vec![level(family, Grain::Hour)],
        None => Vec::new(),
    }
}

fn family_for(filter: &Filter, by: By<'_>) -> Option<Family> {
    let by_key = filter.key.is_some();
    let by_offer = filter.route.is_some() || filter.plan.is_some();
    let by_customer = filter.organization.is_some() || filter.subscription.is_some();
    match by {
        By::Whole | By::Organization if by_key => (!by_offer).then_some(Family::Key),
        By::Whole if !by_offer && !by_customer => Some(Family::Api),
        By::Whole | By::Organization => Some(Family::Route),
        By::Route | By::Plan => (!by_key).then_some(Family::Route),
        By::Key => (!by_offer).then_some(Family::Key),
        By::Status => (!by_key && !by_offer).then_some(Family::Status),
        By::Country => (!by_key && !by_offer).then_some(Family::Country),
        By::Label(_) => (!by_key && !by_offer).then_some(Family::Label),
        By::Address => None,
    }
}

/// The group of a bucket; `None`: it belongs to none.
fn group_of_bucket(key: &BucketKey, by: By<'_>) -> Option<String> {
    match by {
        By::Whole | By::Address => Some(String::new()),
        By::Route | By::Key | By::Status | By::Country => Some(key.dimension.clone()),
        By::Organization => Some(text(key.organization.as_ref().map(|id| id.as_str()))),
        By::Plan => Some(key.plan.clone()),
        By::Label(name) => key
            .dimension
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('='))
            .map(str::to_owned),
    }
}

/// The group of an event; `None`: it belongs to none.
fn group_of_event(event: &UsageEvent, by: By<'_>) -> Option<String> {
    match by {
        By::Whole => Some(String::new()),
        By::Route => Some(event.route.to_string()),
        By::Key => Some(key_name(event)),
        By::Organization => Some(text(event.organization.as_ref().map(|id| id.as_str()))),
        By::Plan => Some(text(event.plan.as_ref().map(|id| id.as_str()))),
        By::Status => Some(event.status.to_string()),
        By::Country => Some(country_name(event)),
        By::Label(name) => event
            .labels
            .iter()
            .find(|label| &*label.name == name)
            .map(|label| label.value.to_string()),
        By::Address => Some(
            event
                .address
                .map(|address| address.to_string())
                .unwrap_or_default(),
        ),
    }
}

fn text(id: Option<&str>) -> String {
    id.unwrap_or_default().to_owned()
}

impl Gather<'_> {
    fn cell_of(&self, at: Timestamp) -> usize {
        self.bounds
            .partition_point(|bound| *bound <= at)
            .saturating_sub(1)
    }

    fn place<'t>(&self, table: &'t mut Table, cell: usize, group: String) -> &'t mut Sums {
        let known = self.names.is_none_or(|names| names.contains(&group));
        let group = if known { group } else { OTHER.to_owned() };
        table.entry((cell, group)).or_default()
    }

    fn query(&self, family: Family, grain: Grain) -> BucketQuery {
        let filter = self.filter;
        BucketQuery {
            family,
            grain,
            from: Timestamp::default(),
            to: Timestamp::default(),
            api: filter.api.clone(),
            organization: filter.organization.clone(),
            subscription: filter.subscription.clone(),
            plan: filter.plan.clone(),
            dimension: match family {
                Family::Route => filter.route.clone(),
                Family::Key => filter.key.as_ref().map(|key| key.as_str().to_owned()),
                Family::Status | Family::Country | Family::Label | Family::Api => None,
            },
            include_test: filter.include_test,
            merge_starts: self.bounds.len() == 2,
        }
    }
}

impl Metering {
    /// Sums up.
    ///
    /// # Errors
    /// `TooMuch` when more than `records_max` records would be read; the store's failures.
    pub(crate) async fn gather(&self, ask: &Gather<'_>) -> MeteringResult<Table> {
        let levels = levels_for(ask.filter, ask.by, self.clock.now().wall);
        let mut table = Table::new();
        let mut records_left = ask.records_max;
        for piece in pieces(ask.bounds, &levels) {
            match piece.source {
                Source::Buckets { family, grain } => {
                    self.add_buckets(ask, family, grain, piece, &mut table)
                        .await?;
                }
                Source::Records => {
                    self.add_records(ask, piece, &mut records_left, &mut table)
                        .await?;
                }
            }
        }
        Ok(table)
    }

    async fn add_buckets(
        &self,
        ask: &Gather<'_>,
        family: Family,
        grain: Grain,
        piece: Piece,
        table: &mut Table,
    ) -> MeteringResult<()> {
        let mut query = ask.query(family, grain);
        let step_us = if query.merge_starts {
            i64::MAX
        } else {
            SPANS_CHUNK * grain.span_us()
        };
        let mut from = piece.from;
        while from < piece.to {
            query.from = from;
            query.to = from.plus_us(step_us).min(piece.to);
            for bucket in self.store.list_buckets(&query).await? {
                let cell = if query.merge_starts {
                    0
                } else {
                    ask.cell_of(bucket.key.start)
                };
                if let Some(group) = group_of_bucket(&bucket.key, ask.by) {
                    ask.place(table, cell, group).add_bucket(&bucket);
                }
            }
            from = query.to;
        }
        Ok(())
    }

    async fn add_records(
        &self,
        ask: &Gather<'_>,
        piece: Piece,
        records_left: &mut usize,
        table: &mut Table,
    ) -> MeteringResult<()> {
        let span = Span::exact(piece.from, piece.to)?;
        self.each_record(&span, ask.filter, records_left, |event| {
            if let Some(group) = group_of_event(event, ask.by) {
                ask.place(table, ask.cell_of(event.at), group)
                    .add_event(event);
            }
        })
        .await
        .map_err(|error| match error {
            MeteringError::TooMuch { .. } => MeteringError::TooMuch {
                records_max: ask.records_max,
            },
            other => other,
        })
    }

    /// Shows every record of a span, newest first, while `records_left` lasts.
    pub(crate) async fn each_record(
        &self,
        span: &Span,
        filter: &Filter,
        records_left: &mut usize,
        mut show: impl FnMut(&UsageEvent),
    ) -> MeteringResult<()> {
        let mut query = query_of(span, filter);
        query.test = (!filter.include_test).then_some(false);
        query.order = RecordOrder::NewestFirst;
        query.limit = RECORDS_CHUNK;
        let records_max = *records_left;
        loop {
            let page = self.store.list_records(&query).await?;
            for record in &page.items {
                *records_left = records_left
                    .checked_sub(1)
                    .ok_or(MeteringError::TooMuch { records_max })?;
                show(&record.event);
            }
            match page.next_cursor {
                Some(cursor) => query.cursor = Some(cursor),
                None => return Ok(()),
            }
        }
    }
}
