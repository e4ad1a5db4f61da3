//! How answers about usage look as JSON. Milliseconds carry three decimals.

use std::collections::BTreeMap;

use serde::Serialize;
use tollgate_metering::question::{Classes, Latency, NearLimit, QuotaStanding, Stats, TopItem};
use utoipa::ToSchema;

/// Microseconds as milliseconds.
pub fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// How long forwarded requests took; `null` where nothing was forwarded or only counts are kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct LatencyMs {
    /// Half took at most so long (percentiles are exact to 1 %).
    pub p50: Option<f64>,
    /// 95 of 100 did.
    pub p95: Option<f64>,
    /// 99 of 100 did.
    pub p99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
    /// The mean.
    pub mean: Option<f64>,
}

impl LatencyMs {
    /// Shows latencies.
    pub fn of(latency: &Latency) -> Self {
        Self {
            p50: latency.p50_us.map(ms),
            p95: latency.p95_us.map(ms),
            p99: latency.p99_us.map(ms),
            max: latency.max_us.map(ms),
            mean: latency.mean_us.map(ms),
        }
    }
}

/// A bar of the distribution of latencies.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistogramBar {
    /// Requests that took at most so long and longer than the bar before; `null`: longer.
    pub at_most_ms: Option<u64>,
    /// How many.
    pub count: u64,
}

/// Requests that did not go well, by whose doing.
#[derive(Debug, Serialize, ToSchema)]
pub struct ByClass {
    /// The caller's: the upstream answered 4xx, or the caller left early.
    pub caller: u64,
    /// Refused at the gate: key, scope, state, limit.
    pub refused: u64,
    /// The upstream's: 5xx from it, or it could not be reached or broke off.
    pub upstream: u64,
    /// Ours: refused because the gateway was overloaded, full or out of date.
    pub ours: u64,
    /// The upstream was too slow.
    pub timeout: u64,
}

impl ByClass {
    fn of(classes: Classes) -> Self {
        let Classes {
            caller,
            refused,
            upstream,
            ours,
            timeout,
        } = classes;
        Self {
            caller,
            refused,
            upstream,
            ours,
            timeout,
        }
    }
}

/// Where a quota stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuotaState {
    /// The allowance; `null`: unlimited.
    pub limit: Option<u64>,
    /// Units used.
    pub used: u64,
    /// Units left; `null`: unlimited.
    pub remaining: Option<u64>,
    /// Used, in percent of the allowance; `null`: unlimited.
    pub percentage: Option<f64>,
    /// The period's end.
    pub resets_at: Option<String>,
}

impl QuotaState {
    /// Shows a quota.
    pub fn of(quota: &QuotaStanding) -> Self {
        Self {
            limit: quota.limit,
            used: quota.used,
            remaining: quota.remaining,
            percentage: quota.percentage.map(two_decimals),
            resets_at: quota.resets_at.map(|at| at.to_string()),
        }
    }
}

fn two_decimals(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Statistics of a span.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageStats {
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
    pub latency_ms: LatencyMs,
    /// Their distribution.
    pub latency_histogram: Vec<HistogramBar>,
    /// Requests by status; `null` where too many single requests would have to be read for it.
    pub by_status: Option<BTreeMap<u16, u64>>,
    /// Requests that did not go well, by whose doing; `null` likewise.
    pub by_class: Option<ByClass>,
    /// `by_status` and `by_class` cover the span grown to whole hours.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub statuses_in_whole_hours: bool,
    /// Requests by day, over the length of the span.
    pub average_per_day: f64,
    /// Where the subscription's quota stands, when one is asked for.
    pub quota: Option<QuotaState>,
}

impl UsageStats {
    /// Shows statistics.
    pub fn of(stats: Stats) -> Self {
        Self {
            requests: stats.requests,
            units: stats.units,
            denied: stats.denied,
            errors: stats.errors,
            client_errors: stats.client_errors,
            server_errors: stats.server_errors,
            error_rate: stats.error_rate,
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            latency_ms: LatencyMs::of(&stats.latency),
            latency_histogram: stats
                .latency_histogram
                .iter()
                .map(|bin| HistogramBar {
                    at_most_ms: bin.at_most_ms,
                    count: bin.count,
                })
                .collect(),
            by_status: stats.by_status,
            by_class: stats.by_class.map(ByClass::of),
            statuses_in_whole_hours: stats.statuses_in_whole_hours,
            average_per_day: two_decimals(stats.average_per_day),
            quota: stats.quota.as_ref().map(QuotaState::of),
        }
    }
}

/// One place of a ranking.
#[derive(Debug, Serialize, ToSchema)]
pub struct RankedItem {
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
    /// Latencies of forwarded requests.
    pub latency_ms: LatencyMs,
}

impl RankedItem {
    /// Shows a place.
    pub fn of(item: TopItem) -> Self {
        Self {
            name: item.name,
            requests: item.requests,
            units: item.units,
            denied: item.denied,
            errors: item.errors,
            latency_ms: LatencyMs::of(&item.latency),
        }
    }
}

/// A subscription that has used most of its quota.
#[derive(Debug, Serialize, ToSchema)]
pub struct NearLimitItem {
    /// Which.
    pub subscription_id: String,
    /// Whose.
    pub organization_id: Option<String>,
    /// Such as `month-subscription`.
    pub name: String,
    /// The allowance.
    pub limit: Option<u64>,
    /// Units used.
    pub used: u64,
    /// Units left.
    pub remaining: Option<u64>,
    /// Used, in percent of the allowance.
    pub percentage: Option<f64>,
    /// The period's end.
    pub resets_at: Option<String>,
}

impl NearLimitItem {
    /// Shows a subscription near its limit.
    pub fn of(near: &NearLimit) -> Self {
        Self {
            subscription_id: near.subscription.as_str().to_owned(),
            organization_id: near.organization.as_ref().map(|id| id.as_str().to_owned()),
            name: near.reading.name.to_string(),
            limit: near.reading.limit,
            used: near.reading.used,
            remaining: near.reading.remaining,
            percentage: near.percentage().map(two_decimals),
            resets_at: near.reading.resets_at.map(|at| at.to_string()),
        }
    }
}
