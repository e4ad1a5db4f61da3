//! The project's own checks: `cargo xtask ci|tidy|arch|campaign`.
//!
//! Exit status: 0 all well, 1 a check failed, 2 wrong usage. Every check lists all of its problems,
//! one a line, each with the place.

mod arch;
mod campaign;
mod ci;
mod tidy;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

const USAGE: &str = "usage: cargo xtask ci|tidy|arch|campaign

  ci     everything that must pass: format, tidy, arch, lints, documentation, tests
  tidy   form and size of files, forbidden words, changelog fragments, links between documents
  arch   which crate may depend on which
  campaign [RUN ...]
         the heavy runs, all or those named; figures go to docs/campaign.md

example: cargo xtask tidy && cargo xtask arch";

/// Something a check found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// File, with the line where there is one.
    place: String,
    /// What is wrong and what would be right.
    text: String,
}

impl Problem {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            text: text.into(),
        }
    }

    fn at_line(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self::new(format!("{path}:{line}"), text)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["tidy"] => root().and_then(|root| report("tidy", &tidy::check(&root)?)),
        ["arch"] => root().and_then(|root| report("arch", &arch::check(&root)?)),
        ["campaign", names @ ..] => root().and_then(|root| campaign::run(&root, names)),
        ["ci"] => root().and_then(|root| ci::run(&root)),
        ["help" | "--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints what was found; answers whether it was nothing.
fn report(check: &str, problems: &[Problem]) -> anyhow::Result<bool> {
    for problem in problems {
        say(&problem.to_string());
    }
    match problems.len() {
        0 => say(&format!("{check}: no problem")),
        1 => say(&format!("{check}: 1 problem")),
        many => say(&format!("{check}: {many} problems")),
    }
    Ok(problems.is_empty())
}

/// One line on standard output. A reader that has gone away is no error of ours.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// The folder of the workspace.
fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2);
    root.map(Path::to_path_buf)
        .context("the workspace's folder is two above this crate's")
}
