//! Which crate may depend on which.
//!
//! Owns the table of allowed arrows between the workspace's crates, and the outside crates that
//! only some of them may use. Arrows point down: binary, edge, rooms, mechanisms, core. Anything
//! that is not allowed here is refused, so a new crate needs a row first.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::Problem;

/// What each crate may depend on, by short name. The binary may name every crate; no crate names
/// the binary.
const ALLOWED: &[(&str, &[&str])] = &[
    // Core.
    ("model", &[]),
    ("admission", &["model"]),
    ("rating", &["model"]),
    // Mechanisms.
    ("lifecycle", &["model"]),
    ("journal", &["model", "lifecycle"]),
    ("counters", &["model", "admission", "lifecycle"]),
    ("store", &["model", "lifecycle"]),
    ("store-sqlite", &["model", "store", "lifecycle"]),
    ("store-postgres", &["model", "store", "lifecycle"]),
    ("jobs", &["model", "store", "lifecycle"]),
    // Rooms.
    (
        "gateway",
        &["model", "admission", "counters", "journal", "lifecycle"],
    ),
    ("control", &["model", "jobs", "store", "lifecycle"]),
    (
        "metering",
        &["model", "journal", "jobs", "store", "lifecycle"],
    ),
    (
        "billing",
        &["model", "rating", "jobs", "store", "lifecycle"],
    ),
    ("notify", &["model", "jobs", "store", "lifecycle"]),
    // Edge.
    (
        "api",
        &[
            "model",
            "control",
            "metering",
            "billing",
            "notify",
            "store",
            "lifecycle",
        ],
    ),
    // Development.
    ("testkit", &["model", "store", "lifecycle"]),
    // The simulator is the one place beside the binary where rooms are put together.
    (
        "simulator",
        &[
            "model", "gateway", "metering", "store", "journal", "testkit",
        ],
    ),
    ("xtask", &[]),
];

/// Crates that are for tests only.
const DEVELOPMENT: &[&str] = &["testkit", "simulator"];

/// What tests of every crate may use in addition.
const ALLOWED_IN_TESTS: &[&str] = &["testkit", "lifecycle", "store-sqlite"];

/// Crates without I/O, clocks, async or a wire.
const CORE: &[&str] = &["model", "admission", "rating"];

/// What core crates may not use directly, tests aside.
const FORBIDDEN_IN_CORE: &[&str] = &[
    "tokio",
    "tokio-util",
    "futures-util",
    "async-trait",
    "hyper",
    "hyper-util",
    "http",
    "axum",
    "tower",
    "reqwest",
    "serde",
    "serde_json",
    "toml",
    "prost",
    "rusqlite",
    "tokio-postgres",
    "rand",
    "tracing",
];

/// Outside crates that only the named crates of ours may use, tests aside.
const ONLY_FOR: &[(&str, &[&str])] = &[
    ("rusqlite", &["store-sqlite"]),
    ("tokio-postgres", &["store-postgres"]),
    ("deadpool-postgres", &["store-postgres"]),
    ("tokio-postgres-rustls", &["store-postgres"]),
    ("axum", &["api", "tollgate"]),
    ("utoipa", &["api", "tollgate"]),
    ("utoipa-axum", &["api"]),
    ("hyper", &["gateway", "testkit", "tollgate"]),
    ("reqwest", &["tollgate", "testkit", "notify", "billing"]),
    ("clap", &["tollgate"]),
    ("comfy-table", &["tollgate"]),
    ("indicatif", &["tollgate"]),
    ("rand", &["lifecycle", "tollgate", "testkit"]),
    ("anyhow", &["tollgate", "testkit", "xtask"]),
    ("prost", &["journal"]),
];

/// Who may need a banned crate all the same, because it comes with what only tests use:
/// `limitador`, which counters are compared with, reads its conditions with `cel`.
const TOLERATED: &[(&str, &str)] = &[("cel", "chrono")];

/// Crates that nothing in the lock file may need, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "a second TLS provider panics at first use"),
    ("aws-lc-sys", "a second TLS provider panics at first use"),
    ("openssl", "TLS is rustls with ring"),
    ("openssl-sys", "TLS is rustls with ring"),
    ("native-tls", "TLS is rustls with ring"),
    ("sqlx", "it cannot be linked beside rusqlite"),
    ("chrono", "time is jiff"),
];

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None`: of the crate itself; `dev`; `build`.
    kind: Option<String>,
    /// Set for crates of the workspace.
    path: Option<String>,
}

/// All forbidden arrows of the workspace at `root`.
///
/// # Errors
/// When `cargo metadata` or the lock file cannot be read.
pub fn check(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let metadata = load(root)?;
    let lock = std::fs::read_to_string(root.join("Cargo.lock")).context("reading Cargo.lock")?;
    let mut problems = check_metadata(&metadata);
    problems.extend(check_lock(&lock));
    Ok(problems)
}

fn load(root: &Path) -> anyhow::Result<Metadata> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root)
        .output()
        .context("starting cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("reading what cargo metadata printed")
}

fn check_metadata(metadata: &Metadata) -> Vec<Problem> {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let name = short(&package.name);
        let place = place_of(&package.manifest_path);
        if name != "tollgate" && !allowed.contains_key(name) {
            problems.push(Problem::new(
                &place,
                format!(
                    "crate {name} has no row in the table of arrows (crates/xtask/src/arch.rs)"
                ),
            ));
            continue;
        }
        let may = allowed.get(name).copied();
        for dependency in &package.dependencies {
            let wrong = if dependency.path.is_some() {
                wrong_arrow(name, may, dependency)
            } else {
                wrong_outside(name, dependency)
            };
            problems.extend(wrong.map(|text| Problem::new(&place, text)));
        }
    }
    problems.sort();
    problems
}

/// Why `name` may not depend on another crate of the workspace; `may` is `None` for the binary.
fn wrong_arrow(name: &str, may: Option<&[&str]>, dependency: &Dependency) -> Option<String> {
    let to = short(&dependency.name);
    if to == "tollgate" {
        return Some(format!("{name} -> tollgate: nothing depends on the binary"));
    }
    let in_tests = is_for_tests(dependency);
    let is_dev = |krate: &str| DEVELOPMENT.contains(&krate);
    if is_dev(to) && !is_dev(name) && !in_tests {
        return Some(format!("{name} -> {to}: for tests only"));
    }
    let may = may?;
    let fine = may.contains(&to) || (in_tests && ALLOWED_IN_TESTS.contains(&to));
    let listed = if may.is_empty() {
        "no crate of ours".to_owned()
    } else {
        may.join(", ")
    };
    (!fine).then(|| format!("{name} -> {to} is not allowed; it may depend on {listed}"))
}

/// Why `name` may not use an outside crate.
fn wrong_outside(name: &str, dependency: &Dependency) -> Option<String> {
    if is_for_tests(dependency) {
        return None;
    }
    let outside = dependency.name.as_str();
    if CORE.contains(&name) && FORBIDDEN_IN_CORE.contains(&outside) {
        return Some(format!(
            "{name} uses {outside}; the core has no I/O, no async and no wire"
        ));
    }
    let (_, only) = ONLY_FOR.iter().find(|(banned, _)| *banned == outside)?;
    (!only.contains(&name)).then(|| format!("{name} uses {outside}; only {} may", only.join(", ")))
}

fn check_lock(lock: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let mut lines = package.lines();
        let name = lines.find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let needed = lines.filter_map(|line| line.strip_prefix(" \"")?.strip_suffix("\","));
        let needed = needed.filter_map(|needed| needed.split(' ').next());
        for (banned, reason) in needed.filter_map(find_banned) {
            let by = name.unwrap_or_default();
            if !TOLERATED.contains(&(by, banned)) {
                let text = format!("{banned}, which {by} needs, is banned: {reason}");
                problems.push(Problem::new("Cargo.lock", text));
            }
        }
    }
    problems
}

fn find_banned(name: &str) -> Option<(&'static str, &'static str)> {
    BANNED.iter().copied().find(|(banned, _)| *banned == name)
}

fn is_for_tests(dependency: &Dependency) -> bool {
    dependency.kind.as_deref() == Some("dev")
}

fn short(name: &str) -> &str {
    name.strip_prefix("tollgate-").unwrap_or(name)
}

/// `crates/<name>/Cargo.toml` of a whole path.
fn place_of(manifest: &str) -> String {
    let parts: Vec<&str> = manifest.rsplit('/').take(3).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(name: &str, dependencies: &str) -> Vec<String> {
        let json = format!(
            r#"{{"packages":[{{"name":"{name}","manifest_path":"/x/crates/c/Cargo.toml",
                "dependencies":[{dependencies}]}}]}}"#
        );
        let metadata = serde_json::from_str(&json).unwrap();
        let problems = check_metadata(&metadata);
        assert!(problems.iter().all(|p| p.place == "crates/c/Cargo.toml"));
        problems.into_iter().map(|problem| problem.text).collect()
    }

    fn ours(name: &str, kind: &str) -> String {
        format!(r#"{{"name":"tollgate-{name}","kind":{kind},"path":"/x/crates/{name}"}}"#)
    }

    fn outside(name: &str, kind: &str) -> String {
        format!(r#"{{"name":"{name}","kind":{kind},"path":null}}"#)
    }

    #[test]
    fn arrows_point_down_only() {
        assert!(texts("tollgate-gateway", &ours("journal", "null")).is_empty());
        assert_eq!(
            texts("tollgate-gateway", &ours("store", "null")),
            ["gateway -> store is not allowed; it may depend on \
              model, admission, counters, journal, lifecycle"]
        );
        assert_eq!(texts("tollgate-model", &ours("store", "null")).len(), 1);
        assert_eq!(
            texts("tollgate-control", &ours("metering", "null")).len(),
            1
        );
        assert!(texts("tollgate", &ours("gateway", "null")).is_empty());
        let binary = r#"{"name":"tollgate","kind":null,"path":"/x/crates/tollgate"}"#;
        assert_eq!(texts("tollgate-api", binary).len(), 1);
    }

    #[test]
    fn tests_may_use_more_and_only_they_may_use_the_testkit() {
        assert!(texts("tollgate-metering", &ours("store-sqlite", "\"dev\"")).is_empty());
        assert!(texts("tollgate-metering", &ours("testkit", "\"dev\"")).is_empty());
        assert_eq!(texts("tollgate", &ours("testkit", "null")).len(), 1);
        assert_eq!(
            texts("tollgate-gateway", &ours("store", "\"dev\"")).len(),
            1
        );
    }

    #[test]
    fn outside_crates_stay_where_they_belong() {
        assert_eq!(texts("tollgate-model", &outside("tokio", "null")).len(), 1);
        assert_eq!(
            texts("tollgate-admission", &outside("serde", "null")).len(),
            1
        );
        assert_eq!(
            texts("tollgate-metering", &outside("rusqlite", "null")).len(),
            1
        );
        assert_eq!(texts("tollgate-gateway", &outside("axum", "null")).len(), 1);
        assert!(texts("tollgate-store-sqlite", &outside("rusqlite", "null")).is_empty());
        assert!(texts("tollgate-gateway", &outside("axum", "\"dev\"")).is_empty());
    }

    #[test]
    fn a_crate_without_a_row_is_refused() {
        assert_eq!(texts("tollgate-surprise", "").len(), 1);
    }

    #[test]
    fn banned_crates_are_found_in_the_lock_file() {
        let needing = |who: &str, what: &str| {
            let lock =
                format!("[[package]]\nname = \"{who}\"\ndependencies = [\n \"{what}\",\n]\n");
            check_lock(&lock).len()
        };
        assert_eq!(needing("tollgate", "sqlx"), 1);
        assert_eq!(needing("tollgate", "chrono 0.4.45"), 1);
        assert_eq!(needing("cel", "chrono"), 0);
        assert_eq!(needing("tollgate", "jiff"), 0);
    }
}
