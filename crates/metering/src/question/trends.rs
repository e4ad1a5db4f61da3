//! Usage over time.

use std::collections::{HashMap, HashSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use tollgate_model::{Counts, Grain, PeriodBasis, Timestamp, period_at};

use super::gather::{By, Gather, Sums, Table, levels_for};
use crate::fold::OTHER;
use crate::question::{Filter, Latency, Span, UNNAMED};
use crate::{Metering, MeteringError, MeteringResult};

/// Most points of an answer that is not grouped.
pub const POINTS_MAX: usize = 10_000;
/// Most starts of an answer that is grouped (each has a point for every group).
pub const GROUPED_POINTS_MAX: usize = 3_000;
/// Most groups; the rest is `other`.
pub const GROUPS_MAX: usize = 20;

/// The distance of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A civil day in the question's zone.
    Day,
}

/// What points are grouped by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// The route's template.
    Route,
    /// The key's id.
    Key,
    /// The customer.
    Organization,
    /// The plan in force.
    Plan,
    /// The status.
    Status,
    /// The country.
    Country,
    /// The value of the label of this name; calls without it are left out.
    Label(String),
}

impl Every {
    /// Reads the API's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "minute" => Some(Self::Minute),
            "hour" => Some(Self::Hour),
            "day" => Some(Self::Day),
            _ => None,
        }
    }
}

impl GroupBy {
    /// Reads the API's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "route" => Some(Self::Route),
            "key" => Some(Self::Key),
            "organization" => Some(Self::Organization),
            "plan" => Some(Self::Plan),
            "status" => Some(Self::Status),
            "country" => Some(Self::Country),
            _ => text
                .strip_prefix("label:")
                .filter(|name| !name.is_empty())
                .map(|name| Self::Label(name.to_owned())),
        }
    }

    fn gathered(&self) -> By<'_> {
        match self {
            Self::Route => By::Route,
            Self::Key => By::Key,
            Self::Organization => By::Organization,
            Self::Plan => By::Plan,
            Self::Status => By::Status,
            Self::Country => By::Country,
            Self::Label(name) => By::Label(name),
        }
    }
}

/// Trends of what.
#[derive(Debug, Clone, PartialEq)]
pub struct TrendsQuestion {
    /// When. Ends that count back from now are moved outwards to whole points.
    pub span: Span,
    /// Whose.
    pub filter: Filter,
    /// How far apart the points are.
    pub every: Every,
    /// Grouped by what.
    pub group_by: Option<GroupBy>,
    /// Where days begin and end.
    pub time_zone: TimeZone,
}

/// One point, and one group of it. Starts without events are there with zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The first instant of its minute, hour or day; the first and last point count only what
    /// lies inside the span asked for.
    pub start: Timestamp,
    /// The group.
    pub group: Option<String>,
    /// All requests, refused ones too.
    pub requests: u64,
    /// Units charged.
    pub units: u64,
    /// Refused at the gate.
    pub denied: u64,
    /// Status 400 and above that we did not refuse.
    pub errors: u64,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Body bytes to clients.
    pub bytes_out: u64,
    /// Latencies of forwarded requests; percentiles where sketches are kept.
    pub latency: Latency,
}

/// Starts of points, and the bounds of what each counts.
struct Cells {
    starts: Vec<Timestamp>,
    bounds: Vec<Timestamp>,
}

impl Metering {
    /// Usage over time: points by rising start, groups with most requests first.
    ///
    /// # Errors
    /// `Invalid` when there would be too many points; `TooMuch` where too many single records
    /// would have to be read; the store's failures.
    pub async fn trends(&self, question: &TrendsQuestion) -> MeteringResult<Vec<Point>> {
        let cells = cells_of(question, self.clock.now().wall)?;
        let by = question.group_by.as_ref().map(GroupBy::gathered);
        let Some(by) = by else {
            let table = self
                .gather(&self.ask(question, &cells.bounds, By::Whole, None))
                .await?;
            return Ok(points(&cells, &[String::new()], &table, false));
        };
        let only_records = levels_for(&question.filter, by, self.clock.now().wall).is_empty();
        let (names, table) = if only_records {
            // Reading records twice is dearer than keeping every group for a moment.
            let table = self
                .gather(&self.ask(question, &cells.bounds, by, None))
                .await?;
            let (names, more) = largest(&table);
            (with_other(&names, more), folded_down(table, &names))
        } else {
            let ends = [first(&cells.bounds), last(&cells.bounds)];
            let whole = self.gather(&self.ask(question, &ends, by, None)).await?;
            let (names, more) = largest(&whole);
            let known: HashSet<String> = names.iter().cloned().collect();
            let table = self
                .gather(&self.ask(question, &cells.bounds, by, Some(&known)))
                .await?;
            // A group that appeared between the two readings counts as `other`.
            let more = more || table.keys().any(|(_, name)| name == OTHER);
            (with_other(&names, more), table)
        };
        Ok(points(&cells, &names, &table, true))
    }

    fn ask<'a>(
        &self,
        question: &'a TrendsQuestion,
        bounds: &'a [Timestamp],
        by: By<'a>,
        names: Option<&'a HashSet<String>>,
    ) -> Gather<'a> {
        Gather {
            bounds,
            filter: &question.filter,
            by,
            names,
            records_max: self.records_max,
        }
    }
}

fn first(bounds: &[Timestamp]) -> Timestamp {
    bounds.first().copied().unwrap_or_default()
}

fn last(bounds: &[Timestamp]) -> Timestamp {
    bounds.last().copied().unwrap_or_default()
}

/// The point that holds an instant.
fn cell_at(at: Timestamp, question: &TrendsQuestion) -> MeteringResult<(Timestamp, Timestamp)> {
    let grain = match question.every {
        Every::Minute => Grain::Minute,
        Every::Hour => Grain::Hour,
        Every::Day => {
            let zone = &question.time_zone;
            let day = tollgate_model::Every::Day;
            let period = period_at(at, day, PeriodBasis::Calendar, Date::ZERO, zone)
                .map_err(|error| MeteringError::invalid("from", error.to_string()))?;
            return Ok((period.start, period.end));
        }
    };
    let start = at.floor_to(grain.span_us());
    Ok((start, start.plus_us(grain.span_us())))
}

fn cells_of(question: &TrendsQuestion, now: Timestamp) -> MeteringResult<Cells> {
    let Span {
        from,
        to,
        exact_from,
        exact_to,
        ..
    } = question.span;
    // A span that counts back from now has no points that have not begun yet.
    let to = if exact_to { to } else { to.min(now.plus_us(1)) };
    let points_max = match question.group_by {
        Some(_) => GROUPED_POINTS_MAX,
        None => POINTS_MAX,
    };
    let mut cells = Cells {
        starts: Vec::new(),
        bounds: Vec::new(),
    };
    let mut at = from;
    while at < to {
        let (start, end) = cell_at(at, question)?;
        if cells.starts.len() >= points_max {
            return Err(MeteringError::invalid(
                "every",
                format!("more than {points_max} points; ask for a shorter span or larger steps"),
            ));
        }
        cells.starts.push(start);
        cells.bounds.push(if exact_from { at } else { start });
        // Days, unlike a span that counts back, may go on beyond everything there is.
        let beyond = end >= to;
        if beyond {
            cells.bounds.push(if exact_to { to } else { end });
            break;
        }
        at = end;
    }
    Ok(cells)
}

/// The largest groups, and whether there are more.
fn largest(table: &Table) -> (Vec<String>, bool) {
    let mut requests: HashMap<&str, u64> = HashMap::new();
    for ((_, name), sums) in table {
        *requests.entry(name).or_default() += sums.counts.requests;
    }
    // `other` may be a label's folded values; it stands last in any case.
    let mut more = requests.remove(OTHER).is_some();
    let mut ranked: Vec<(&str, u64)> = requests.into_iter().collect();
    ranked.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let room = GROUPS_MAX - usize::from(more || ranked.len() > GROUPS_MAX);
    more |= ranked.len() > room;
    ranked.truncate(room);
    let names = ranked
        .into_iter()
        .map(|(name, _)| name.to_owned())
        .collect();
    (names, more)
}

fn with_other(names: &[String], more: bool) -> Vec<String> {
    let mut names = names.to_vec();
    if more {
        names.push(OTHER.to_owned());
    }
    names
}

/// Groups beyond the named ones become `other`.
fn folded_down(table: Table, names: &[String]) -> Table {
    let mut out = Table::new();
    for ((cell, name), sums) in table {
        let name = if names.contains(&name) {
            name
        } else {
            OTHER.to_owned()
        };
        out.entry((cell, name)).or_default().add(&sums);
    }
    out
}

fn points(cells: &Cells, names: &[String], table: &Table, grouped: bool) -> Vec<Point> {
    let empty = Sums::default();
    let unnamed = [String::new()];
    // Without any group the zeros still are there, without a name.
    let (names, grouped) = if names.is_empty() {
        (&unnamed[..], false)
    } else {
        (names, grouped)
    };
    let mut out = Vec::with_capacity(cells.starts.len() * names.len());
    for (cell, start) in cells.starts.iter().enumerate() {
        for name in names {
            let sums = table.get(&(cell, name.clone())).unwrap_or(&empty);
            let group = match name.as_str() {
                "" => UNNAMED.to_owned(),
                name => name.to_owned(),
            };
            out.push(point(*start, grouped.then_some(group), sums));
        }
    }
    out
}

fn point(start: Timestamp, group: Option<String>, sums: &Sums) -> Point {
    let Counts {
        requests,
        units,
        denied,
        errors,
        bytes_in,
        bytes_out,
        ..
    } = sums.counts;
    Point {
        start,
        group,
        requests,
        units,
        denied,
        errors,
        bytes_in,
        bytes_out,
        latency: Latency::of(sums),
    }
}
