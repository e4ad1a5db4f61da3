//! `tollgate bench`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::duration;

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure the way of a decision: key, limits, counters; its memory, and a start.
    #[command(after_help = "Example:\n  tollgate bench admission --keys 100000")]
    Admission(BenchAdmissionArgs),
    /// How fast events go from the journal into the store, and how soon they can be asked for.
    #[command(after_help = "Example:\n  tollgate bench ingest --dir /var/lib/tollgate --for 10s")]
    Ingest(BenchIngestArgs),
}

#[derive(Debug, Args)]
pub struct BenchAdmissionArgs {
    /// How many keys; may be given several times. Default: 1000, 100000 and 1000000.
    #[arg(long = "keys", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub keys: Vec<u32>,
    /// Keys of each subscription.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keys_per_subscription: u32,
    /// Decisions of each measurement.
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..))]
    pub decisions: u32,
    /// Do not measure memory and a start.
    #[arg(long)]
    pub speed_only: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct BenchIngestArgs {
    /// Where events are taken in: sqlite (a file), postgres (the database of
    /// TOLLGATE__STORE__URL), or a URL postgres://...; there in a schema of its own, which is
    /// removed at the end.
    #[arg(
        long,
        default_value = "sqlite",
        value_name = "STORE",
        hide_default_value = false
    )]
    pub store: String,
    /// Measure on the disk of this folder; what is written there is removed at the end.
    #[arg(long, default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Events that wait in the journal when shipping begins.
    #[arg(long, default_value_t = 500_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..=20_000_000))]
    pub events: u64,
    /// How long events then come in at a steady rate, such as 10s.
    #[arg(long = "for", default_value = "10s", value_name = "DURATION", value_parser = duration)]
    pub run_for: Duration,
    /// That rate, in events a second.
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rate: u64,
    /// Only a mix of so many keys (with --subscriptions).
    #[arg(long, value_name = "N", requires = "subscriptions", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub keys: Option<u32>,
    /// Only a mix of so many subscriptions (with --keys).
    #[arg(long, value_name = "N", requires = "keys", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub subscriptions: Option<u32>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
