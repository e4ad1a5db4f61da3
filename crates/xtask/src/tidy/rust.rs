//! Rules for Rust files: a header that says what the module owns, and a size.
//!
//! Production lines are those before the first test module. Files of tests (`tests/`) may be as
//! long as the hard limit.

use std::cell::Cell;

use crate::Problem;

/// Where exceptions stand.
pub const RATCHET: &str = "crates/xtask/ratchet.txt";

/// Production lines of a file.
const LINES_MAX: usize = 400;
/// Production lines of an excepted file.
const LINES_HARD_MAX: usize = 600;

/// Files that may be longer, each with its number and reason.
pub struct Ratchet {
    entries: Vec<Entry>,
}

struct Entry {
    line: usize,
    path: String,
    lines_max: usize,
    needed: Cell<bool>,
}

impl Ratchet {
    /// Reads the list; what is not well-formed is a problem.
    pub fn parse(text: &str, problems: &mut Vec<Problem>) -> Self {
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let parts: Vec<&str> = line.split('|').map(str::trim).collect();
            let parsed = match parts.as_slice() {
                [path, lines, reason] if !reason.is_empty() => {
                    lines.parse().ok().map(|lines_max| Entry {
                        line: line_number,
                        path: (*path).to_owned(),
                        lines_max,
                        needed: Cell::new(false),
                    })
                }
                _ => None,
            };
            match parsed {
                Some(entry) if entry.lines_max <= LINES_HARD_MAX => entries.push(entry),
                Some(_) => problems.push(Problem::at_line(
                    RATCHET,
                    line_number,
                    format!("no file may have more than {LINES_HARD_MAX} production lines"),
                )),
                None => problems.push(Problem::at_line(
                    RATCHET,
                    line_number,
                    "an exception is: path | lines | reason",
                )),
            }
        }
        Self { entries }
    }

    /// How many lines `path` may have, when it is longer than others.
    fn lines_max(&self, path: &str) -> usize {
        let entry = self.entries.iter().find(|entry| entry.path == path);
        entry.map_or(LINES_MAX, |entry| {
            entry.needed.set(true);
            entry.lines_max
        })
    }

    /// Exceptions that nothing needs any more are a problem.
    pub fn check_used(&self, problems: &mut Vec<Problem>) {
        for entry in self.entries.iter().filter(|entry| !entry.needed.get()) {
            let text = format!("{} is short enough now: remove the exception", entry.path);
            problems.push(Problem::at_line(RATCHET, entry.line, text));
        }
    }
}

/// Looks at one Rust file.
pub fn check(path: &str, text: &str, ratchet: &Ratchet, problems: &mut Vec<Problem>) {
    if !text.starts_with("//!") {
        problems.push(Problem::at_line(
            path,
            1,
            "a module opens with //!: what it owns, its invariants, what it does not own",
        ));
    }
    let lines = production_lines(text);
    let is_test =
        path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/");
    let lines_max = match lines {
        _ if is_test => LINES_HARD_MAX,
        lines if lines > LINES_MAX => ratchet.lines_max(path),
        _ => return,
    };
    if lines > lines_max {
        problems.push(Problem::new(
            path,
            format!("{lines} production lines; at most {lines_max}: split it"),
        ));
    }
}

/// Lines before the first test module.
fn production_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let starts_tests = |pair: &[&str]| match pair {
        [attribute, module] => {
            attribute.trim() == "#[cfg(test)]" && module.trim_start().starts_with("mod ")
        }
        _ => false,
    };
    lines
        .windows(2)
        .position(starts_tests)
        .unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str, ratchet: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let ratchet = Ratchet::parse(ratchet, &mut problems);
        check(path, text, &ratchet, &mut problems);
        ratchet.check_used(&mut problems);
        problems.into_iter().map(|problem| problem.text).collect()
    }

    fn file(production: usize, tests: usize) -> String {
        let mut text = "//! Header.\n".to_owned();
        text.push_str(&"x\n".repeat(production - 1));
        text.push_str("#[cfg(test)]\nmod tests {\n");
        text.push_str(&"y\n".repeat(tests));
        text
    }

    #[test]
    fn a_module_opens_with_its_header() {
        assert_eq!(found("a.rs", "use x;\n", "").len(), 1);
        assert!(found("a.rs", "//! Owns x.\n", "").is_empty());
    }

    #[test]
    fn only_production_lines_count() {
        assert!(found("a.rs", &file(400, 900), "").is_empty());
        assert_eq!(found("a.rs", &file(401, 0), "").len(), 1);
        assert!(found("c/tests/a.rs", &"//!\n".repeat(600), "").is_empty());
        assert_eq!(found("c/tests/a.rs", &"//!\n".repeat(601), "").len(), 1);
    }

    #[test]
    fn exceptions_have_a_number_a_reason_and_a_need() {
        assert!(found("a.rs", &file(500, 0), "a.rs | 500 | one table\n").is_empty());
        assert_eq!(
            found("a.rs", &file(501, 0), "a.rs | 500 | one table\n").len(),
            1
        );
        assert_eq!(
            found("a.rs", &file(300, 0), "a.rs | 500 | one table\n").len(),
            1
        );
        assert_eq!(found("a.rs", &file(300, 0), "a.rs | 500 |\n").len(), 1);
        assert_eq!(found("a.rs", &file(300, 0), "a.rs | 700 | big\n").len(), 1);
    }
}
