//! Form and size of files.
//!
//! Owns: finding the files, and which rule looks at which of them. The rules are pure functions
//! over a file's path and text, in [`rust`], [`text`] and [`project`].

mod project;
mod rust;
mod text;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::Problem;

/// Longest file that is kept in the repository, in bytes.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// A file of the repository.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    /// Its bytes as text; `None` when they are no UTF-8.
    text: Option<String>,
    /// Its length.
    bytes: usize,
}

/// All problems of the repository at `root`.
///
/// # Errors
/// When files cannot be listed or read.
pub fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let files = load(root)?;
    let ratchet = files.iter().find(|file| file.path == rust::RATCHET);
    let ratchet_text = ratchet.and_then(|file| file.text.as_deref());
    let mut problems = Vec::new();
    let ratchet = rust::Ratchet::parse(ratchet_text.unwrap_or_default(), &mut problems);
    for file in &files {
        if file.bytes > FILE_BYTES_MAX {
            problems.push(Problem::new(&file.path, "longer than 1 MiB"));
        }
        let Some(text) = &file.text else { continue };
        text::check(&file.path, text, &mut problems);
        if file.path.ends_with(".rs") {
            rust::check(&file.path, text, &ratchet, &mut problems);
        }
    }
    ratchet.check_used(&mut problems);
    project::check(&files, &mut problems);
    problems.sort();
    Ok(problems)
}

fn load(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    for path in list(root)? {
        // A file may be listed and deleted, and not yet committed.
        let Ok(bytes) = std::fs::read(root.join(&path)) else {
            continue;
        };
        files.push(File {
            path,
            bytes: bytes.len(),
            text: String::from_utf8(bytes).ok(),
        });
    }
    Ok(files)
}

/// What is in the repository or about to be; a checkout without git's folder is walked instead.
fn list(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8(output.stdout).context("paths are UTF-8")?;
            Ok(text
                .split('\0')
                .filter(|path| !path.is_empty())
                .map(str::to_owned)
                .collect())
        }
        _ => {
            let mut paths = Vec::new();
            walk(root, root, &mut paths)?;
            if paths.is_empty() {
                bail!("no files under {}", root.display());
            }
            Ok(paths)
        }
    }
}

fn walk(root: &Path, folder: &Path, paths: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = entry.file_type()?;
        let made = ["target", "node_modules", ".git", "demo-data"];
        if kind.is_dir() && !made.iter().any(|made| name == *made) {
            walk(root, &entry.path(), paths)?;
        } else if kind.is_file() {
            let path = entry.path();
            let relative = path.strip_prefix(root).unwrap_or(&path);
            paths.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}
