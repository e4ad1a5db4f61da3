//! The heavy runs, and the page that keeps their figures.
//!
//! Owns the list of runs with their sizes, runs them in an optimised build, and writes what they
//! print into `docs/campaign.md` with command, commit, date and machine. A test tells a figure by a
//! line that begins with `figure: `; nothing else is taken from its output.
//!
//! A section of the page is replaced only by a run that passed. What failed is on the terminal.

mod page;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::say;

/// How a line begins that belongs into the page.
const FIGURE: &str = "figure: ";

/// How the line of a test begins that did not run.
const SKIPPED: &str = "SKIPPED ";

/// How a run ended.
enum Ended {
    /// With these figures.
    Passed(Vec<String>),
    /// Something it needs is not here.
    Skipped,
    Failed,
}

/// One heavy run.
struct Run {
    name: &'static str,
    /// What it tries to break, as the page says it.
    title: &'static str,
    what: What,
    /// Sizes, unless the environment has others.
    sizes: &'static [(&'static str, &'static str)],
}

/// What is started.
enum What {
    /// Tests of a package: what cargo is asked for, and the filter of their names.
    Tests(&'static [&'static str], &'static str),
    /// The binary with these arguments.
    Tollgate(&'static [&'static str]),
}

const fn tests(target: &'static [&'static str]) -> What {
    What::Tests(target, "")
}

/// Everything, in the order in which little is compiled twice.
const RUNS: &[Run] = &[
    Run {
        name: "calendars",
        title: "periods of every zone against Python's calendars",
        what: tests(&["--package", "tollgate-model", "--test", "calendars"]),
        sizes: &[("TOLLGATE_CALENDAR_YEARS", "21")],
    },
    Run {
        name: "journal",
        title: "every byte torn, every bit flipped, every operation failing",
        what: tests(&["--package", "tollgate-journal", "--lib"]),
        sizes: &[("TOLLGATE_JOURNAL_EVERY", "1"), ("PROPTEST_CASES", "20000")],
    },
    Run {
        name: "schedules",
        title: "threads in every order over reservations, grants and snapshots",
        what: What::Tests(&["--package", "tollgate-counters", "--lib"], "explored"),
        sizes: &[("TOLLGATE_SHUTTLE_SCHEDULES", "100000")],
    },
    Run {
        name: "restarts",
        title: "counters over random crashes",
        what: What::Tests(&["--package", "tollgate-counters", "--lib"], "restart"),
        sizes: &[("PROPTEST_CASES", "100000")],
    },
    Run {
        name: "simulator",
        title: "one node from one seed: clock, disk, store and kills",
        what: What::Tests(
            &["--package", "tollgate-simulator", "--test", "seeds"],
            "no_seed",
        ),
        sizes: &[
            ("TOLLGATE_SIM_SEEDS", "1000"),
            ("TOLLGATE_SIM_STEPS", "10000"),
        ],
    },
    Run {
        name: "exact_limits",
        title: "attempts against limits, to the unit",
        what: tests(&["--package", "tollgate", "--test", "exact_limits"]),
        sizes: &[("TOLLGATE_ATTEMPTS", "10000000"), ("TOLLGATE_ROUNDS", "10")],
    },
    Run {
        name: "kill9",
        title: "`kill -9` under load, limits near",
        what: tests(&["--package", "tollgate", "--test", "kill9"]),
        sizes: &[
            ("TOLLGATE_KILL9_CYCLES", "1000"),
            ("TOLLGATE_KILL9_POSTGRES_CYCLES", "100"),
        ],
    },
    Run {
        name: "postgres",
        title: "PostgreSQL killed, stopped and read only under load",
        what: tests(&["--package", "tollgate", "--test", "postgres"]),
        sizes: &[("TOLLGATE_POSTGRES_FAULTS", "12")],
    },
    Run {
        name: "power_cut",
        title: "power cuts on a real file system",
        what: tests(&["--package", "tollgate", "--test", "power_cut"]),
        sizes: &[("TOLLGATE_POWER_CUTS", "60")],
    },
    Run {
        name: "machine",
        title: "slow disks, syncs that fail, clocks that jump, no file descriptors",
        what: tests(&["--package", "tollgate", "--test", "machine"]),
        sizes: &[("TOLLGATE_MACHINE_FAULTS", "1")],
    },
    Run {
        name: "cuts",
        title: "connections cut at every byte",
        what: tests(&["--package", "tollgate", "--test", "cuts"]),
        sizes: &[],
    },
    Run {
        name: "load",
        title: "1 000 requests a second over 1 000 connections",
        what: tests(&["--package", "tollgate", "--test", "load"]),
        sizes: &[
            ("TOLLGATE_LOAD_SECONDS", "60"),
            ("TOLLGATE_LOAD_CONNECTIONS", "1000"),
            ("TOLLGATE_LOAD_RATE", "1000"),
        ],
    },
    Run {
        name: "bench-admission",
        title: "the way of a decision",
        what: What::Tollgate(&["bench", "admission"]),
        sizes: &[],
    },
    Run {
        name: "bench-ingest",
        title: "from the journal to an answer",
        what: What::Tollgate(&["bench", "ingest", "--dir", "target"]),
        sizes: &[],
    },
    Run {
        name: "failpoints",
        title: "crashes at every step between journal and store",
        what: tests(&[
            "--package",
            "tollgate",
            "--features",
            "failpoints",
            "--test",
            "failpoints",
        ]),
        sizes: &[
            ("TOLLGATE_FAILPOINT_CRASHES", "20"),
            ("TOLLGATE_LOST_ANSWERS", "2000"),
        ],
    },
];

/// Runs those that are named, or all; the answer is whether all of them passed.
///
/// # Errors
/// When a name is unknown, cargo cannot be started, or the page cannot be written.
pub fn run(root: &Path, names: &[&str]) -> anyhow::Result<bool> {
    for name in names {
        ensure!(
            RUNS.iter().any(|run| run.name == *name),
            "there is no run {name}; there are: {}",
            RUNS.iter()
                .map(|run| run.name)
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    let chosen = RUNS
        .iter()
        .filter(|run| names.is_empty() || names.contains(&run.name));
    let mut failed = Vec::new();
    let mut skipped = Vec::new();
    for run in chosen {
        let command = run.command_line();
        say(&format!("== {}: {command}", run.name));
        let figures = run.figures(root)?;
        match figures {
            Ended::Passed(figures) => page::write(root, run.name, run.title, &command, &figures)?,
            Ended::Skipped => skipped.push(run.name),
            Ended::Failed => failed.push(run.name),
        }
    }
    if !skipped.is_empty() {
        let names = skipped.join(", ");
        say(&format!(
            "campaign: not run in full, and not written down: {names}; see SKIPPED above for why"
        ));
    }
    if failed.is_empty() {
        say("campaign: all that ran passed; the figures are in docs/campaign.md");
    } else {
        say(&format!("campaign: FAILED: {}", failed.join(", ")));
    }
    Ok(failed.is_empty())
}

impl Run {
    /// The sizes that this run has: those of the environment come first.
    fn sizes(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.sizes.iter().map(|(name, size)| {
            let size = std::env::var(name).unwrap_or_else(|_| (*size).to_owned());
            (*name, size)
        })
    }

    fn arguments(&self) -> Vec<&'static str> {
        let mut arguments = Vec::new();
        match &self.what {
            What::Tests(target, filter) => {
                arguments.extend(["test", "--profile", "campaign", "--locked"]);
                arguments.extend(*target);
                arguments.push("--");
                arguments.extend((!filter.is_empty()).then_some(*filter));
                arguments.extend(["--nocapture", "--test-threads=1"]);
            }
            What::Tollgate(rest) => {
                arguments.extend(["run", "--profile", "campaign", "--locked"]);
                arguments.extend(["--package", "tollgate", "--"]);
                arguments.extend(*rest);
            }
        }
        arguments
    }

    /// What a reader would type to see the same.
    fn command_line(&self) -> String {
        let mut words: Vec<String> = self
            .sizes()
            .map(|(name, size)| format!("{name}={size}"))
            .collect();
        let arguments = self.arguments();
        words.push("cargo".to_owned());
        words.extend(arguments.into_iter().map(str::to_owned));
        words.join(" ")
    }

    /// Runs it and shows its output.
    fn figures(&self, root: &Path) -> anyhow::Result<Ended> {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut child = Command::new(cargo)
            .args(self.arguments())
            .envs(self.sizes())
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        let output = child.stdout.take().context("its output was asked for")?;
        let mut figures = Vec::new();
        let mut skipped = false;
        for line in BufReader::new(output).lines() {
            let line = line.context("reading what it prints")?;
            // The test runner may have begun the line with the test's name.
            if let Some((_, figure)) = line.split_once(FIGURE) {
                figures.push(figure.trim().to_owned());
            }
            skipped |= line.contains(SKIPPED);
            say(&line);
        }
        let passed = child.wait().context("waiting for its end")?.success();
        Ok(match (passed, skipped) {
            (false, _) => Ended::Failed,
            (true, true) => Ended::Skipped,
            (true, false) => Ended::Passed(figures),
        })
    }
}
