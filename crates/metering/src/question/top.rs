//! Rankings.

use super::gather::{By, Gather, Table};
use crate::question::{Filter, Latency, Span};
use crate::{Metering, MeteringError, MeteringResult};

/// Most items of a ranking.
pub const TOP_ITEMS_MAX: u32 = 1_000;

/// What is ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopBy {
    /// Routes, by template.
    Route,
    /// Keys, by id.
    Key,
    /// Customers.
    Organization,
    /// Client addresses.
    Address,
    /// Countries.
    Country,
}

impl TopBy {
    /// Every spelling.
    pub const ALL: [Self; 5] = [
        Self::Route,
        Self::Key,
        Self::Organization,
        Self::Address,
        Self::Country,
    ];

    /// As it stands in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Key => "key",
            Self::Organization => "organization",
            Self::Address => "address",
            Self::Country => "country",
        }
    }

    /// Reads the API's spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == text)
    }

    fn gathered(self) -> By<'static> {
        match self {
            Self::Route => By::Route,
            Self::Key => By::Key,
            Self::Organization => By::Organization,
            Self::Address => By::Address,
            Self::Country => By::Country,
        }
    }
}

/// A ranking of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopQuestion {
    /// When.
    pub span: Span,
    /// Whose.
    pub filter: Filter,
    /// By what.
    pub by: TopBy,
    /// Most items, 1 to [`TOP_ITEMS_MAX`].
    pub limit: u32,
}

/// One place of a ranking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopItem {
    /// The route's template, or an id, address or country code.
    pub name: String,
    /// All requests, refused ones too.
    pub requests: u64,
    /// Units charged.
    pub units: u64,
    /// Refused at the gate.
    pub denied: u64,
    /// Status 400 and above that we did not refuse.
    pub errors: u64,
    /// Latencies of forwarded requests; percentiles for routes, customers and addresses.
    pub latency: Latency,
}

/// A ranking: most requests first, equal ones by name. Calls without what is ranked by (without a
/// key, from an unknown country) are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Top {
    /// Its places.
    pub items: Vec<TopItem>,
}

impl Metering {
    /// A ranking.
    ///
    /// # Errors
    /// `Invalid` for a bad limit; `TooMuch` where too many single records would have to be read
    /// (by address in particular); the store's failures.
    pub async fn top(&self, question: &TopQuestion) -> MeteringResult<Top> {
        if !(1..=TOP_ITEMS_MAX).contains(&question.limit) {
            return Err(MeteringError::invalid(
                "limit",
                format!("a whole number from 1 to {TOP_ITEMS_MAX}"),
            ));
        }
        let by = question.by.gathered();
        // Keys and countries are counted by the hour only: the open ends of "the last 24 hours"
        // go outwards, so that no single records are read for them.
        let span = match by {
            By::Key | By::Country => question.span.with_open_ends_in_whole_hours(),
            _ => question.span,
        };
        let table = self
            .gather(&Gather {
                bounds: &[span.from, span.to],
                filter: &question.filter,
                by,
                names: None,
                records_max: self.records_max,
            })
            .await?;
        Ok(Top {
            items: ranked(table, question.limit),
        })
    }
}

fn ranked(table: Table, limit: u32) -> Vec<TopItem> {
    let mut items: Vec<TopItem> = table
        .into_iter()
        .filter(|((_, name), _)| !name.is_empty())
        .map(|((_, name), sums)| TopItem {
            name,
            requests: sums.counts.requests,
            units: sums.counts.units,
            denied: sums.counts.denied,
            errors: sums.counts.errors,
            latency: Latency::of(&sums),
        })
        .collect();
    items.sort_by(|a, b| b.requests.cmp(&a.requests).then(a.name.cmp(&b.name)));
    items.truncate(limit as usize);
    items
}
