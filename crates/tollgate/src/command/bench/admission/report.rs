//! What is printed: figures, and plainly what falls short and why.

use serde_json::{Value, json};

use super::memory::Memory;
use super::speed::{self, Percentiles, Run, Use};
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
    pub why: Option<String>,
}

impl Target {
    fn new(
        what: impl Into<String>,
        wanted: String,
        measured: String,
        met: bool,
        why: impl FnOnce() -> String,
    ) -> Self {
        Self {
            what: what.into(),
            wanted,
            measured,
            met,
            why: (!met).then(why),
        }
    }
}

/// Why a run is slow: what a run with fewer keys shows cannot come from memory.
fn why_slow(run: &Run, runs: &[Run]) -> String {
    let ns = |run: &Run| (1e9 / run.per_core.max(1.0)) as u64;
    let fewer = runs
        .iter()
        .filter(|other| other.used == run.used && other.keys < run.keys);
    let Some(fewest) = fewer.min_by_key(|other| other.keys) else {
        return format!(
            "{} ns of processor time a call, decided and settled; no run with fewer keys was made \
             that would tell how much of it is waiting for memory",
            ns(run)
        );
    };
    if run.decide.p50 > fewest.decide.p50 + fewest.decide.p50 / 3 {
        format!(
            "with {} keys it is {} ns and {} ns of processor time a call; the rest is waiting for \
             memory, as the keys and counters of this many callers are not in the processor's \
             caches",
            fewest.keys,
            fewest.decide.p50,
            ns(fewest)
        )
    } else {
        format!(
            "hardly faster with {} keys ({} ns), so this is not waiting for memory but the work \
             itself on this processor: {} ns of processor time a call, decided and settled",
            fewest.keys,
            fewest.decide.p50,
            ns(run)
        )
    }
}

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
            || why_slow(run, runs),
        ));
        targets.push(Target::new(
            of("decided and settled a core"),
            format!(">= {} a second", thousands(PER_CORE_MIN)),
            format!("{} a second", thousands(run.per_core)),
            run.per_core >= PER_CORE_MIN,
            || why_slow(run, runs),
        ));
    }
    if let Some(memory) = memory.filter(|memory| memory.keys >= KEYS_PROMISED) {
        let mib = memory.used_bytes >> 20;
        targets.push(Target::new(
            format!("memory, {} keys, {} used", memory.keys, memory.used),
            format!("<= {RESIDENT_MIB_MAX} MiB"),
            format!("{mib} MiB"),
            mib <= RESIDENT_MIB_MAX,
            || {
                let (key, counter) = (memory.per_key_bytes(), memory.per_counter_bytes());
                format!("a key takes {key} bytes, a counter in use {counter}")
            },
        ));
        let start_ms = memory.start_ns() / 1_000_000;
        targets.push(Target::new(
            "start: keys loaded, counters restored",
            format!("<= {START_MS_MAX} ms"),
            format!("{start_ms} ms"),
            start_ms <= START_MS_MAX,
            || {
                let (restore, load) = (memory.restore_ns / 1_000_000, memory.load_ns / 1_000_000);
                format!("{restore} ms for the journal and counters, {load} ms for catalog and keys")
            },
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
    print_figures(runs, memory)?;
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
            target.why.as_deref().unwrap_or("not known")
        ))?;
    }
    Ok(())
}

/// What is kept of a measurement, a line each.
fn print_figures(runs: &[Run], memory: Option<&Memory>) -> anyhow::Result<()> {
    for run in runs {
        output::line(format!(
            "figure: admission, {} keys, {}: look-up and decision p50/p99 {}/{} ns, {} decided and \
             settled a second and core ({} with hashing)",
            run.keys,
            run.used.as_str(),
            run.decide.p50,
            run.decide.p99,
            thousands(run.per_core),
            thousands(run.per_core_with_hash),
        ))?;
    }
    let Some(memory) = memory else { return Ok(()) };
    output::line(format!(
        "figure: admission, {} keys of which {} used: {} MiB resident, start {} ms, a shard locked \
         {} µs at most for its copy",
        memory.keys,
        memory.used,
        memory.used_bytes >> 20,
        memory.start_ns() / 1_000_000,
        memory.copy_ns_max / 1_000,
    ))
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

/// Everything as JSON. What stands for all is the hardest: the most keys, each used as often.
#[must_use]
pub fn all_json(runs: &[Run], memory: Option<&Memory>, targets: &[Target], clock_ns: u64) -> Value {
    let uniform = runs.iter().filter(|run| run.used == Use::Uniform);
    let main = uniform.max_by_key(|run| run.keys);
    json!({
        "decision_ns": main.map(|run| json!({ "p50": run.decide.p50, "p99": run.decide.p99 })),
        "decisions_per_s": main.map(|run| run.per_core as u64),
        "keys": main.map(|run| run.keys),
        "rss_bytes": memory.map(|memory| memory.used_bytes),
        "cores": speed::cores(),
        "clock_ns": clock_ns,
        "runs": runs.iter().map(run_json).collect::<Vec<_>>(),
        "memory": memory.map(memory_json),
        "targets": targets.iter().map(target_json).collect::<Vec<_>>(),
    })
}

/// One measurement as JSON.
fn run_json(run: &Run) -> Value {
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
fn memory_json(memory: &Memory) -> Value {
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
fn target_json(target: &Target) -> Value {
    json!({
        "what": target.what,
        "wanted": target.wanted,
        "measured": target.measured,
        "met": target.met,
        "why": target.why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keys: u32, used: Use, p50: u64) -> Run {
        let at = |p50| Percentiles {
            p50,
            ..Percentiles::default()
        };
        Run {
            keys,
            used,
            hash: at(1),
            decide: at(p50),
            settle: at(1),
            per_core: 500_000.0,
            per_core_with_hash: 400_000.0,
            all_cores: 800_000.0,
        }
    }

    #[test]
    fn a_slow_run_is_explained_by_one_with_fewer_keys_and_never_by_itself() {
        let of = |keys, p50| run(keys, Use::Uniform, p50);
        let alone = [of(1_000, 900), run(10, Use::Skewed, 100)];
        let why = why_slow(&alone[0], &alone);
        assert!(why.contains("no run with fewer keys"), "{why}");
        assert!(why.contains("2000 ns of processor time"), "{why}");
        let slower = [of(1_000, 600), of(100_000, 900)];
        assert!(why_slow(&slower[0], &slower).contains("no run with fewer keys"));
        let why = why_slow(&slower[1], &slower);
        assert!(why.contains("with 1000 keys it is 600 ns"), "{why}");
        let alike = [of(1_000, 800), of(100_000, 900)];
        let why = why_slow(&alike[1], &alike);
        assert!(why.contains("not waiting for memory"), "{why}");
    }
}
