//! `tollgate bench`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure the way of a decision: key, limits, counters; its memory, and a start.
    #[command(after_help = "Example:\n  tollgate bench admission --keys 100000")]
    Admission(AdmissionBenchArgs),
}

#[derive(Debug, Args)]
pub struct AdmissionBenchArgs {
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
