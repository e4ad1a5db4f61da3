//! What can be asked about usage.

use clap::{Args, Subcommand};

use super::PlatformArgs;

/// The span and the filters that all questions share.
#[derive(Debug, Clone, Args)]
pub struct UsageFilter {
    /// First instant, RFC 3339.
    #[arg(long)]
    pub from: Option<String>,
    /// First instant outside, RFC 3339.
    #[arg(long)]
    pub to: Option<String>,
    /// Instead of --from and --to: 1h, 24h, 7d or 30d back from now.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub range: Option<String>,
    /// Only this subscription.
    #[arg(long)]
    pub subscription: Option<String>,
    /// Only this organization.
    #[arg(long)]
    pub organization: Option<String>,
    /// Only this API.
    #[arg(long)]
    pub api: Option<String>,
    /// Only this key (its id).
    #[arg(long)]
    pub key: Option<String>,
    /// Only this route, such as /v1/widgets/{id}.
    #[arg(long)]
    pub route: Option<String>,
    /// Only this plan.
    #[arg(long)]
    pub plan: Option<String>,
    /// Calls of test keys too (single records show them always).
    #[arg(long)]
    pub include_test: bool,
}

#[derive(Debug, Subcommand)]
pub enum UsageCommand {
    /// Totals, latencies, errors and quota of a span.
    #[command(
        after_help = "Example:\n  tollgate usage stats --subscription acme-widgets --range 7d"
    )]
    Stats {
        #[command(flatten)]
        filter: UsageFilter,
        #[command(flatten)]
        platform: PlatformArgs,
    },
    /// The busiest routes, keys, organizations, addresses or countries.
    #[command(after_help = "Example:\n  tollgate usage top --by organization --range 24h")]
    Top {
        /// route, key, organization, address or country.
        #[arg(long, default_value = "route")]
        by: String,
        /// How many.
        #[arg(long, default_value_t = 10)]
        limit: u32,
        #[command(flatten)]
        filter: UsageFilter,
        #[command(flatten)]
        platform: PlatformArgs,
    },
    /// A series over time.
    #[command(after_help = "Example:\n  tollgate usage trends --every day --range 7d")]
    Trends {
        /// minute, hour or day.
        #[arg(long, default_value = "hour")]
        every: String,
        /// route, key, organization, plan, status, country or label:NAME.
        #[arg(long)]
        group_by: Option<String>,
        /// Whose days; default UTC.
        #[arg(long)]
        time_zone: Option<String>,
        #[command(flatten)]
        filter: UsageFilter,
        #[command(flatten)]
        platform: PlatformArgs,
    },
    /// Single requests.
    #[command(after_help = "Example:\n  tollgate usage records --min-latency-ms 500 --range 24h")]
    Records {
        /// Only this status.
        #[arg(long)]
        status: Option<u16>,
        /// Only this outcome, such as denied.
        #[arg(long)]
        outcome: Option<String>,
        /// Only at least so slow.
        #[arg(long)]
        min_latency_ms: Option<u64>,
        /// Only from this address.
        #[arg(long)]
        address: Option<String>,
        /// Only this request.
        #[arg(long)]
        request_id: Option<String>,
        /// Most records of the page.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Where the page begins (`next_cursor` of the page before).
        #[arg(long)]
        cursor: Option<String>,
        /// More columns, and nothing shortened, however wide; --json has every field.
        #[arg(long)]
        wide: bool,
        #[command(flatten)]
        filter: UsageFilter,
        #[command(flatten)]
        platform: PlatformArgs,
    },
}
