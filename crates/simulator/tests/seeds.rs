//! The promises hold for every seed. Small by default; `TOLLGATE_SIM_SEEDS` and
//! `TOLLGATE_SIM_STEPS` make it large, `TOLLGATE_SIM_SEED` replays one.

use std::io::Write;

use tollgate_simulator::{Options, Report, Violation, run};

/// Seeds that once failed: (seed, steps).
const FAILED_ONCE: &[(u64, u64)] = &[
    // A dead process was heard by the store: the account's fault.
    (2, 1_000),
    (13, 1_000),
    (67, 1_000),
    (74, 1_000),
    (90, 1_000),
    // A gateway's time may begin again before the latest moment: the account's fault.
    (37, 1_000),
    (58, 1_000),
    // A quota that was forgotten was opened again by a clock set back after a restart.
    (88, 1_000),
    // A sync long ago passed for one of 71 minutes ago.
    (1, 2_500),
    (65, 2_500),
    // The journal had all its disk when a write failed: no checkpoint, no deletion, for ever.
    (559, 2_001),
];

fn number(name: &str, or: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(or)
}

/// Runs a seed; where it fails, again with its trace.
fn check(seed: u64, steps: u64) -> Result<Report, Box<Violation>> {
    let run = |trace| run(&Options { seed, steps, trace });
    run(false).map_err(|first| run(true).err().unwrap_or(first))
}

#[test]
fn no_seed_breaks_a_promise() {
    let seeds = number("TOLLGATE_SIM_SEEDS", 100);
    let first = number("TOLLGATE_SIM_FIRST", 1);
    let steps = number("TOLLGATE_SIM_STEPS", 1_000);
    let mut sum = Report::default();
    let mut broken = Vec::new();
    let mut out = std::io::stdout();
    for seed in first..first + seeds {
        match run(&Options {
            seed,
            steps,
            trace: false,
        }) {
            Ok(report) => sum.add(&report),
            Err(violation) => {
                writeln!(out, "{violation}").unwrap();
                broken.push(seed);
            }
        }
    }
    let Report {
        operations,
        kills,
        stillborn,
        power_cuts,
        stops,
        calms,
        admitted,
        refused,
        delivered,
        excused,
        ..
    } = sum;
    let violations = broken.len();
    writeln!(
        out,
        "figure: {seeds} seeds, {operations} operations, {} crashes ({kills} kills, {stillborn} \
         starts that died, {power_cuts} power cuts), {stops} stops: {violations} violations; \
         {admitted} requests admitted, {refused} refused, {delivered} records, {excused} within a \
         told span, everything agreed at {calms} calms",
        kills + stillborn + power_cuts
    )
    .unwrap();
    assert!(broken.is_empty(), "seeds that break: {broken:?}");
    assert!(admitted > 0 && refused > 0 && kills > 0 && power_cuts > 0);
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
