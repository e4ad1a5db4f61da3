//! Rules over the whole repository: a README in every crate, well-formed changelog fragments,
//! links between documents that lead somewhere.

use std::collections::BTreeSet;

use super::File;
use crate::Problem;

/// What a fragment of the changelog may be about.
const FRAGMENT_KINDS: &[&str] = &["feature", "fix", "breaking", "security"];

/// Looks at all files together.
pub fn check(files: &[File], problems: &mut Vec<Problem>) {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    problems.extend(missing_readmes(&paths));
    for file in files {
        let text = file.text.as_deref().unwrap_or_default();
        if file.path.starts_with("changelog.d/") {
            let wrong = wrong_fragment(&file.path, text);
            problems.extend(wrong.map(|text| Problem::new(&file.path, text)));
        }
        if file.path.ends_with(".md") {
            check_links(&file.path, text, &paths, problems);
        }
    }
}

fn missing_readmes(paths: &BTreeSet<&str>) -> Vec<Problem> {
    let crates = paths.iter().filter_map(|path| {
        let name = path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")?;
        (!name.contains('/')).then(|| format!("crates/{name}"))
    });
    crates
        .filter(|folder| !paths.contains(format!("{folder}/README.md").as_str()))
        .map(|folder| Problem::new(folder, "no README.md: what it owns, what it does not own"))
        .collect()
}

/// Why a fragment is not well-formed.
fn wrong_fragment(path: &str, text: &str) -> Option<String> {
    let name = path.strip_prefix("changelog.d/").unwrap_or(path);
    if name == "README.md" {
        return None;
    }
    let stem = name.strip_suffix(".md").unwrap_or_default();
    let kind = stem.rsplit_once('.').map(|(_, kind)| kind);
    let slug = stem.rsplit_once('.').map_or("", |(slug, _)| slug);
    let slug_is_fine = !slug.is_empty()
        && slug
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !slug_is_fine || !kind.is_some_and(|kind| FRAGMENT_KINDS.contains(&kind)) {
        let kinds = FRAGMENT_KINDS.join("|");
        return Some(format!("a fragment is called <what-it-is>.<{kinds}>.md"));
    }
    let text = text.trim();
    let begins_well = text.chars().next().is_some_and(char::is_uppercase);
    (!begins_well || !text.ends_with('.')).then(|| "a fragment is whole sentences".to_owned())
}

fn check_links(path: &str, text: &str, paths: &BTreeSet<&str>, problems: &mut Vec<Problem>) {
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for target in line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains(':') {
                continue;
            }
            let resolved = resolve(path, target);
            let folder = format!("{}/", resolved.trim_end_matches('/'));
            let is_folder = paths.iter().any(|path| path.starts_with(&folder));
            if !paths.contains(resolved.as_str()) && !is_folder {
                let text = format!("the link to {target} leads nowhere");
                problems.push(Problem::at_line(path, index + 1, text));
            }
        }
    }
}

/// The path, from the root, that `target` in the document `from` means.
fn resolve(from: &str, target: &str) -> String {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> = files
            .iter()
            .map(|(path, text)| File {
                path: (*path).to_owned(),
                text: Some((*text).to_owned()),
                bytes: text.len(),
            })
            .collect();
        let mut problems = Vec::new();
        check(&files, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_crate_has_a_readme() {
        assert_eq!(found(&[("crates/a/Cargo.toml", "")]).len(), 1);
        let with = [("crates/a/Cargo.toml", ""), ("crates/a/README.md", "")];
        assert!(found(&with).is_empty());
    }

    #[test]
    fn fragments_are_named_and_written_well() {
        assert!(found(&[("changelog.d/keys.feature.md", "Keys expire.\n")]).is_empty());
        assert!(found(&[("changelog.d/README.md", "how")]).is_empty());
        for (path, text) in [
            ("changelog.d/keys.md", "Keys expire.\n"),
            ("changelog.d/keys.news.md", "Keys expire.\n"),
            ("changelog.d/Keys.fix.md", "Keys expire.\n"),
            ("changelog.d/keys.fix.md", "keys expire\n"),
            ("changelog.d/keys.fix.md", ""),
        ] {
            assert_eq!(found(&[(path, text)]).len(), 1, "{path}");
        }
    }

    #[test]
    fn links_lead_to_files_and_folders_of_the_repository() {
        let text = "[a](../b.md#part) [c](c) [web](https://example.com) [here](#x)\n";
        let fine = [("docs/a.md", text), ("b.md", ""), ("docs/c/d.txt", "")];
        assert!(found(&fine).is_empty());
        assert_eq!(found(&[("docs/a.md", text)]).len(), 2);
        assert!(found(&[("a.md", "```\n[x](nowhere)\n```\n")]).is_empty());
    }
}
