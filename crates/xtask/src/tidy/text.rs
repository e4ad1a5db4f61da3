//! Rules for every text file: whitespace, and words that have no place here.

use crate::Problem;

/// Marks of unfinished work; what is unfinished is an issue, not a comment. Written in halves so
/// that this file does not find itself.
const MARKS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("HA", "CK"),
];

/// Words that have a better one, with it; found in any case, as whole words.
const WORDS: &[(&str, &str)] = &[
    (concat!("ten", "ant"), "organization"),
    (concat!("white", "list"), "allow-list"),
    (concat!("black", "list"), "deny-list"),
    (concat!("blaz", "ing"), "a figure"),
    (concat!("seam", "less"), "what happens"),
    (concat!("world-", "class"), "a figure"),
];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Use", "rs/"),
    concat!("/wo", "rk/"),
];

/// Files that are written by programs.
const GENERATED: &[&str] = &[
    "Cargo.lock",
    "package-lock.json",
    ".snap",
    ".svg",
    ".tsv",
    ".min.js",
];

/// Looks at one file.
pub fn check(path: &str, text: &str, problems: &mut Vec<Problem>) {
    if GENERATED.iter().any(|end| path.ends_with(end)) {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.trim_end() != line {
            problems.push(Problem::at_line(path, number, "whitespace at the end"));
        }
        for mark in MARKS.iter().filter(|mark| has_word(line, mark)) {
            let text = format!("{mark}: finish it, or write an issue");
            problems.push(Problem::at_line(path, number, text));
        }
        check_words(path, number, line, problems);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        problems.push(Problem::new(path, "does not end with a line feed"));
    }
    if text.ends_with("\n\n") {
        problems.push(Problem::new(path, "ends with empty lines"));
    }
}

fn check_words(path: &str, number: usize, line: &str, problems: &mut Vec<Problem>) {
    let lower = line.to_lowercase();
    for (word, better) in WORDS {
        if has_word(&lower, word) {
            let text = format!("\"{word}\": say {better}");
            problems.push(Problem::at_line(path, number, text));
        }
    }
    for place in MACHINE_PATHS {
        if begins_path(line, place) {
            let text = format!("a path under {place} exists on one machine only");
            problems.push(Problem::at_line(path, number, text));
        }
    }
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

/// Whether a path in `line` begins with `place`, rather than having it in its middle.
fn begins_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        check("a/b.rs", text, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn whitespace_and_endings_are_checked() {
        assert!(found("fine\n").is_empty());
        assert_eq!(found("one \ntwo\n"), ["a/b.rs:1: whitespace at the end"]);
        assert_eq!(found("open"), ["a/b.rs: does not end with a line feed"]);
        assert_eq!(found("much\n\n"), ["a/b.rs: ends with empty lines"]);
        assert_eq!(found("dos\r\n"), Vec::<String>::new());
    }

    #[test]
    fn marks_of_unfinished_work_are_found_as_words() {
        assert_eq!(found(&format!("// {}: later\n", MARKS[0])).len(), 1);
        assert!(found(&format!("let {}S = 1;\n", MARKS[0])).is_empty());
    }

    #[test]
    fn words_and_machine_paths_are_found() {
        assert_eq!(
            found(&format!("A {} pays\n", WORDS[0].0.to_uppercase())).len(),
            1
        );
        assert_eq!(found(&format!("see {}x\n", MACHINE_PATHS[0])).len(), 1);
        assert!(found(&format!("GET /v1{}x\n", MACHINE_PATHS[0])).is_empty());
    }
}
