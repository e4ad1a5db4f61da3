//! `docs/campaign.md`: a section for each run, replaced when it has run again.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

const PAGE: &str = "docs/campaign.md";

/// How any section begins.
const HEADING: &str = "\n## ";
/// How the section of a run begins; what has no such name was written by hand and stays.
const SECTION: &str = "\n## `";

/// Writes the section of one run, in its place or at the end.
///
/// # Errors
/// When the page cannot be read or written, or git does not answer.
pub fn write(
    root: &Path,
    name: &str,
    title: &str,
    command: &str,
    figures: &[String],
) -> anyhow::Result<()> {
    let path = root.join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| format!("reading {PAGE}"))?;
    let origin = Origin::ask(root)?;
    let section = section(name, title, command, figures, &origin)?;
    std::fs::write(&path, replaced(&page, name, &section))
        .with_context(|| format!("writing {PAGE}"))
}

/// Where and when the figures were made.
struct Origin {
    commit: String,
    date: String,
    machine: String,
}

impl Origin {
    fn ask(root: &Path) -> anyhow::Result<Self> {
        let commit = answer(root, "git", &["rev-parse", "--short=7", "HEAD"])?;
        let changed = answer(root, "git", &["status", "--porcelain", "--", "crates"])?;
        let and_changes = if changed.is_empty() {
            ""
        } else {
            " with changes"
        };
        Ok(Self {
            commit: format!("{commit}{and_changes}"),
            date: answer(root, "date", &["-u", "+%Y-%m-%d"])?,
            machine: machine(),
        })
    }
}

fn answer(root: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output()
        .with_context(|| format!("asking {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Cores, processor and memory, as far as the system tells them.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map(|(_, value)| value.trim().to_owned())
    };
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let memory_kib = field("/proc/meminfo", "MemTotal")
        .and_then(|value| value.split(' ').next()?.parse::<u64>().ok());
    let memory_gib = memory_kib.unwrap_or(0).div_ceil(1024 * 1024);
    format!("{cores} cores of {model}, {memory_gib} GiB")
}

fn section(
    name: &str,
    title: &str,
    command: &str,
    figures: &[String],
    origin: &Origin,
) -> anyhow::Result<String> {
    let mut text = format!("{SECTION}{name}`: {title}\n\n");
    for figure in figures {
        writeln!(text, "- {figure}")?;
    }
    if figures.is_empty() {
        writeln!(text, "- passed")?;
    }
    writeln!(text, "\n```sh\n{command}\n```\n")?;
    let Origin {
        commit,
        date,
        machine,
    } = origin;
    writeln!(text, "Commit {commit}, {date}, {machine}.")?;
    Ok(text)
}

/// The page with the section of this name exchanged, or added at its end.
fn replaced(page: &str, name: &str, section: &str) -> String {
    let Some(start) = page.find(&format!("{SECTION}{name}`")) else {
        return format!("{}\n{section}", page.trim_end());
    };
    let (before, rest) = page.split_at(start);
    let after = rest
        .char_indices()
        .skip(1)
        .find(|(at, _)| rest.split_at(*at).1.starts_with(HEADING))
        .map_or("", |(at, _)| rest.split_at(at).1);
    format!("{before}{section}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_ran_again_replaces_its_own_section_only() {
        let page = "# Heavy\n\n## `one`: a\n\n- 1\n\n## `two`: b\n\n- 2\n";
        let new = "\n## `one`: a\n\n- 9\n";
        assert_eq!(
            replaced(page, "one", new),
            "# Heavy\n\n## `one`: a\n\n- 9\n\n## `two`: b\n\n- 2\n"
        );
    }

    #[test]
    fn what_was_written_by_hand_behind_a_run_stays_when_it_runs_again() {
        let page = "# Heavy\n\n## `one`: a\n\n- 1\n\n## By hand\n\n- 2\n";
        let new = "\n## `one`: a\n\n- 9\n";
        assert_eq!(
            replaced(page, "one", new),
            "# Heavy\n\n## `one`: a\n\n- 9\n\n## By hand\n\n- 2\n"
        );
    }

    #[test]
    fn a_run_that_is_new_is_added_at_the_end() {
        let page = "# Heavy\n\n## `one`: a\n\n- 1\n";
        let new = "\n## `three`: c\n\n- 3\n";
        assert_eq!(
            replaced(page, "three", new),
            "# Heavy\n\n## `one`: a\n\n- 1\n\n## `three`: c\n\n- 3\n"
        );
    }
}
