//! What is printed: figures, and plainly what falls short and why.

use serde_json::{Value, json};

use super::memory::Memory;
use super::speed::{self, Percentiles, Run};
use crate::output;

const P50_NS_MAX: u64 = 500;
const PER_CORE_MIN: f64 = 1_000_000.0;
const RESIDENT_MIB_MAX: u64 = 400;
const START_MS_MAX: u64 = 3_000;
/// The size that memory and start are promised for.
const KEYS_PROMISED: u32 = 1_000_000;

/// A promise and what was measured.
#[derive(Debug)]
pub struct Target {
    pub what: String,
    pub wanted: String,
    pub measured: String,
    pub met: bool,
    /// Why it falls short, where it does.
    pub why: Option<&'static str>,
}

impl Target {
    fn new(
        what: impl Into<String>,
        wanted: String,
        measured: String,
        met: bool,
        why: &'static str,
    ) -> Self {
        Self {
            what: what.into(),
            wanted,
            measured,
            met,
            why: (!met).then_some(why),
        }
    }
}

const WHY_SLOW: &str = "more callers than the processor's caches hold: what a decision reads \
    (key, subscription, compiled limits, two places of counters) comes from memory, one after the \
    other, at about 100 ns each";
const WHY_LARGE: &str = "a key takes its hash, its ids as text and two places in look-up tables; \
    a counter in use its slots, sums and marks";
const WHY_LATE: &str = "every counter and every key is put into its table one by one";

/// All targets that something was measured for.
#[must_use]
pub fn targets(runs: &[Run], memory: Option<&Memory>) -> Vec<Target> {
    let mut targets = Vec::new();
    for run in runs {
        let of = |what| format!("{what}, {} keys, {}", run.keys, run.used.as_str());
        targets.push(Target::new(
            of("look-up and decision, p50"),
            format!("<= {P50_NS_MAX} ns"),
            format!("{} ns", run.decide.p50),
            run.decide.p50 <= P50_NS_MAX,
            WHY_SLOW,
        ));
        targets.push(Target::new(
            of("decided and settled a core"),
            format!(">= {} a second", thousands(PER_CORE_MIN)),
            format!("{} a second", thousands(run.per_core)),
            run.per_core >= PER_CORE_MIN,
            WHY_SLOW,
        ));
    }
    if let Some(memory) = memory.filter(|memory| memory.keys >= KEYS_PROMISED) {
        let mib = memory.used_bytes >> 20;
        targets.push(Target::new(
            format!("memory, {} keys, {} used", memory.keys, memory.used),
            format!("<= {RESIDENT_MIB_MAX} MiB"),
            format!("{mib} MiB"),
            mib <= RESIDENT_MIB_MAX,
            WHY_LARGE,
        ));
        let start_ms = memory.start_ns() / 1_000_000;
        targets.push(Target::new(
            "start: keys loaded, counters restored",
            format!("<= {START_MS_MAX} ms"),
            format!("{start_ms} ms"),
            start_ms <= START_MS_MAX,
            WHY_LATE,
        ));
    }
    targets
}

/// Prints for people.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(
    runs: &[Run],
    memory: Option<&Memory>,
    targets: &[Target],
    clock_ns: u64,
) -> anyhow::Result<()> {
    output::line(format!(
        "Three windows by key and a quota by subscription, {} cores. Single calls in ns (p50/p90/\
         p99; asking the time, {clock_ns} ns, is in each), calls a second.",
        speed::cores()
    ))?;
    let rows = runs.iter().map(|run| {
        vec![
            run.keys.to_string(),
            run.used.as_str().to_owned(),
            in_row(run.hash),
            in_row(run.decide),
            in_row(run.settle),
            thousands(run.per_core),
            thousands(run.per_core_with_hash),
            thousands(run.all_cores),
        ]
    });
    output::table(
        &[
            ">keys",
            "use",
            ">hash",
            ">look-up and decision",
            ">settle",
            ">a core, no hash",
            ">a core",
            ">all cores",
        ],
        rows.collect(),
    )?;
    if let Some(memory) = memory {
        print_memory(memory)?;
    }
    let missed: Vec<&Target> = targets.iter().filter(|target| !target.met).collect();
    output::line(format!(
        "{} of {} targets are met.",
        targets.len() - missed.len(),
        targets.len()
    ))?;
    for target in missed {
        output::line(format!(
            "Falls short: {}: {}, wanted {}. Why: {}.",
            target.what,
            target.measured,
            target.wanted,
            target.why.unwrap_or("not known")
        ))?;
    }
    Ok(())
}

fn print_memory(memory: &Memory) -> anyhow::Result<()> {
    output::line(format!(
        "Memory: {} MiB before, {} MiB with {} keys ({} bytes each), {} MiB with {} of them used \
         ({} counters, {} bytes each).",
        memory.before_bytes >> 20,
        memory.keys_bytes >> 20,
        memory.keys,
        memory.per_key_bytes(),
        memory.used_bytes >> 20,
        memory.used,
        memory.counters,
        memory.per_counter_bytes(),
    ))?;
    output::line(format!(
        "Checkpoint: {} KiB in {} ms; a shard is locked for {} µs at most. Start: {} ms for the \
         journal and counters, {} ms for catalog and keys (made, hashed and put in force).",
        memory.checkpoint_bytes >> 10,
        memory.checkpoint_ns / 1_000_000,
        memory.copy_ns_max / 1_000,
        memory.restore_ns / 1_000_000,
        memory.load_ns / 1_000_000,
    ))
}

fn in_row(percentiles: Percentiles) -> String {
    let Percentiles { p50, p90, p99 } = percentiles;
    format!("{p50}/{p90}/{p99}")
}

fn thousands(number: f64) -> String {
    format!("{:.2} M", number / 1e6)
}

/// One measurement as JSON.
#[must_use]
pub fn run_json(run: &Run) -> Value {
    let of = |p: Percentiles| json!({ "p50": p.p50, "p90": p.p90, "p99": p.p99 });
    json!({
        "keys": run.keys,
        "use": run.used.as_str(),
        "hash_ns": of(run.hash),
        "decide_ns": of(run.decide),
        "settle_ns": of(run.settle),
        "per_core_without_hash": run.per_core as u64,
        "per_core": run.per_core_with_hash as u64,
        "all_cores": run.all_cores as u64,
    })
}

/// Memory and start as JSON.
#[must_use]
pub fn memory_json(memory: &Memory) -> Value {
    json!({
        "keys": memory.keys,
        "used": memory.used,
        "counters": memory.counters,
        "before_bytes": memory.before_bytes,
        "keys_bytes": memory.keys_bytes,
        "used_bytes": memory.used_bytes,
        "per_key_bytes": memory.per_key_bytes(),
        "per_counter_bytes": memory.per_counter_bytes(),
        "copy_ns_max": memory.copy_ns_max,
        "checkpoint_bytes": memory.checkpoint_bytes,
        "checkpoint_ms": memory.checkpoint_ns / 1_000_000,
        "restore_ms": memory.restore_ns / 1_000_000,
        "load_ms": memory.load_ns / 1_000_000,
        "start_ms": memory.start_ns() / 1_000_000,
    })
}

/// A target as JSON.
#[must_use]
pub fn target_json(target: &Target) -> Value {
    json!({
        "what": target.what,
        "wanted": target.wanted,
        "measured": target.measured,
        "met": target.met,
        "why": target.why,
    })
}
