//! The promises hold for every seed. Small by default; `TOLLGATE_SIM_SEEDS` and
//! `TOLLGATE_SIM_STEPS` make it large, `TOLLGATE_SIM_SEED` replays one.

use std::io::Write;

use tollgate_simulator::{Options, Report, Violation, run};

/// Seeds that once failed: (seed, steps).
const FAILED_ONCE: &[(u64, u64)] = &[];

fn number(name: &str, or: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(or)
}

/// Runs a seed; where it fails, again with its trace.
fn check(seed: u64, steps: u64) -> Result<Report, Box<Violation>> {
    let run = |trace| run(&Options { seed, steps, trace });
    run(false).or_else(|first| Err(run(true).err().unwrap_or(first)))
}

#[test]
fn no_seed_breaks_a_promise() {
    let seeds = number("TOLLGATE_SIM_SEEDS", 100);
    let first = number("TOLLGATE_SIM_FIRST", 1);
    let steps = number("TOLLGATE_SIM_STEPS", 1_000);
    let mut sum = Report::default();
    for seed in first..first + seeds {
        sum.add(&check(seed, steps).unwrap_or_else(|broken| panic!("{broken}")));
    }
    writeln!(std::io::stdout(), "{seeds} seeds: {sum:#?}").unwrap();
    assert!(sum.admitted > 0 && sum.refused > 0 && sum.kills > 0 && sum.power_cuts > 0);
}

#[test]
fn seeds_that_failed_once_do_not_again() {
    for (seed, steps) in FAILED_ONCE {
        check(*seed, *steps).unwrap_or_else(|broken| panic!("{broken}"));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 2, 3] {
        let report = || check(seed, 3_000).unwrap_or_else(|broken| panic!("{broken}"));
        assert_eq!(report(), report());
    }
}

#[test]
fn replay() {
    let seed = number("TOLLGATE_SIM_SEED", 1);
    let report = check(seed, number("TOLLGATE_SIM_STEPS", 500));
    let report = report.unwrap_or_else(|broken| panic!("{broken}"));
    writeln!(std::io::stdout(), "seed {seed}: {report:#?}").unwrap();
}
