//! `tollgate bench admission`: what a decision costs, what keys and counters weigh, and how long
//! a start takes.
//!
//! Everything goes through [`tollgate_gateway::Probe`], that is through the code that serves. Each
//! key has windows of a second, a minute and an hour of its own, its subscription a monthly quota.
//! Marks go to a log in memory: the journal's own cost is not in the figures.

mod memory;
mod report;
mod speed;
mod world;

use crate::cli::BenchAdmissionArgs;
use crate::output;

const KEYS: [u32; 3] = [1_000, 100_000, 1_000_000];

/// Measures and prints.
///
/// # Errors
/// When the machine cannot be read or a temporary folder cannot be written.
pub fn run(args: &BenchAdmissionArgs) -> anyhow::Result<()> {
    let sizes = if args.keys.is_empty() {
        &KEYS[..]
    } else {
        &args.keys
    };
    // First, while the process is still small.
    let memory = if args.speed_only {
        None
    } else {
        let most = sizes.iter().copied().max().unwrap_or(1);
        Some(memory::measure(most, args.keys_per_subscription)?)
    };
    let mut runs = Vec::new();
    for keys in sizes {
        runs.extend(speed::measure(
            *keys,
            args.keys_per_subscription,
            args.decisions,
        )?);
    }
    let clock_ns = speed::clock_ns();
    let targets = report::targets(&runs, memory.as_ref());
    if args.json {
        let told = report::all_json(&runs, memory.as_ref(), &targets, clock_ns);
        return output::json(&told);
    }
    report::print(&runs, memory.as_ref(), &targets, clock_ns)
}
