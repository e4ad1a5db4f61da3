//! Everything that must pass, in order: what fails fast comes first, the tests come last so that
//! their summary ends the output.
//!
//! Does not install anything: a missing tool is named with the line that installs it. All builds
//! use one target folder, so that dependencies are built once for lints and once for tests.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::{arch, report, say, tidy};

/// A program that is run with fixed arguments.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

const FORMAT: Step = Step {
    name: "format",
    arguments: &["fmt", "--all", "--check"],
    environment: &[],
};

const LINTS: Step = Step {
    name: "lints",
    arguments: &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ],
    environment: &[],
};

const DOCUMENTATION: Step = Step {
    name: "documentation",
    arguments: &["doc", "--workspace", "--no-deps", "--locked"],
    environment: &[("RUSTDOCFLAGS", "-D warnings")],
};

/// What `deny.toml` says, as far as it needs no network.
const LICENCES: Step = Step {
    name: "licences",
    arguments: &["deny", "--offline", "check", "bans", "licenses", "sources"],
    environment: &[],
};

const NEXTEST: Step = Step {
    name: "tests",
    arguments: &[
        "nextest",
        "run",
        "--workspace",
        "--locked",
        "--no-fail-fast",
        "--status-level",
        "slow",
        "--final-status-level",
        "fail",
    ],
    environment: &[],
};

const TESTS_WITHOUT_NEXTEST: Step = Step {
    name: "tests",
    arguments: &["test", "--workspace", "--locked", "--no-fail-fast"],
    environment: &[],
};

/// Runs everything; the answer is whether all of it passed.
///
/// # Errors
/// When a tool is missing or cannot be started.
pub fn run(root: &Path) -> anyhow::Result<bool> {
    let started = now();
    for (component, sign) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if !answers(root, &[sign, "--version"]) {
            anyhow::bail!("{component} is missing; install it: rustup component add {component}");
        }
    }
    let tests = if answers(root, &["nextest", "--version"]) {
        NEXTEST
    } else {
        say("cargo-nextest is missing, cargo test is used; to install it:");
        say("  cargo install --locked cargo-nextest");
        TESTS_WITHOUT_NEXTEST
    };
    let mut passed = Vec::new();
    let checked = timed("tidy", &mut passed, || report("tidy", &tidy::check(root)?))?
        && timed("arch", &mut passed, || report("arch", &arch::check(root)?))?;
    if !checked {
        return Ok(false);
    }
    let mut steps = vec![&FORMAT, &LINTS, &DOCUMENTATION, &tests];
    if answers(root, &["deny", "--version"]) {
        steps.insert(1, &LICENCES);
    } else {
        say("cargo-deny is missing, deny.toml is not checked; to install it:");
        say("  cargo install --locked cargo-deny");
    }
    for step in steps {
        let went_well = timed(step.name, &mut passed, || step.run(root))?;
        if !went_well {
            say(&format!(
                "ci: {} FAILED: cargo {}",
                step.name,
                step.arguments.join(" ")
            ));
            return Ok(false);
        }
    }
    let list: Vec<String> = passed
        .iter()
        .map(|(name, took)| format!("{name} {} s", took.as_secs()))
        .collect();
    say(&format!(
        "ci: all passed in {} s: {}",
        started.elapsed().as_secs(),
        list.join(", ")
    ));
    Ok(true)
}

impl Step {
    fn run(&self, root: &Path) -> anyhow::Result<bool> {
        say(&format!(
            "== {}: cargo {}",
            self.name,
            self.arguments.join(" ")
        ));
        let status = Command::new(cargo())
            .args(self.arguments)
            .envs(self.environment.iter().copied())
            .current_dir(root)
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("starting cargo {}", self.arguments.join(" ")))?;
        Ok(status.success())
    }
}

fn timed(
    name: &'static str,
    passed: &mut Vec<(&'static str, Duration)>,
    step: impl FnOnce() -> anyhow::Result<bool>,
) -> anyhow::Result<bool> {
    let started = now();
    let went_well = step()?;
    passed.push((name, started.elapsed()));
    Ok(went_well)
}

fn answers(root: &Path, arguments: &[&str]) -> bool {
    let status = Command::new(cargo())
        .args(arguments)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a step took is shown to people, and nothing is decided by it"
)]
fn now() -> Instant {
    Instant::now()
}
