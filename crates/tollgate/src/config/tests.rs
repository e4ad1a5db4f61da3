//! Configurations that hold and that do not.

use super::read::read;
use super::*;

fn base() -> &'static Path {
    Path::new("/etc/gate")
}

fn problems(text: &str) -> Vec<String> {
    match read(text, std::iter::empty(), base()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_commented_file_holds_and_says_the_defaults() {
    let config = read(&template(), std::iter::empty(), base()).unwrap();
    assert_eq!(config.gateway_listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(
        config.store.file(),
        Some(Path::new("/etc/gate/tollgate.db"))
    );
    assert_eq!(config.journal_keep_us, 86_400_000_000);
    assert_eq!(config.journal_disk_bytes_max, 4 << 30);
    assert_eq!(config.catalog_file, Some("/etc/gate/catalog.toml".into()));
    assert!(!config.journal_durable);
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = read("", std::iter::empty(), base()).unwrap();
    assert_eq!(config.health_listen, "127.0.0.1:8082".parse().unwrap());
    assert_eq!(config.journal_dir, Path::new("/etc/gate/journal"));
    assert_eq!(config.catalog_file, None);
    assert_eq!(config.node, None);
}

#[test]
fn absolute_paths_stay_as_they_are() {
    let text = "[store]\nurl = \"sqlite:///var/lib/gate.db\"\n[journal]\ndir = \"/var/j\"\n";
    let config = read(text, std::iter::empty(), base()).unwrap();
    assert_eq!(config.store.file(), Some(Path::new("/var/lib/gate.db")));
    assert_eq!(config.journal_dir, Path::new("/var/j"));
}

#[test]
fn a_database_is_named_without_its_password() {
    let text = "[store]\nurl = \"postgres://ann:s3cret@db.example/gate\"\n";
    let config = read(text, std::iter::empty(), base()).unwrap();
    let shown = "postgres://ann@db.example:5432/gate";
    assert_eq!(config.store.to_string(), shown);
    assert!(!format!("{config:?}").contains("s3cret"));
    for bad in [
        "postgres://ann:s3cret@db.example/gate?sslmode=prefer",
        "postgres://ann:s3cret@db.example:many/gate",
        "postgre://ann:s3cret@db.example/gate",
        "ann:s3cret@db.example/gate",
    ] {
        let found = problems(&format!("[store]\nurl = \"{bad}\"\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("line 2, column 7: store.url: "),
            "{found:?}"
        );
        assert!(!found[0].contains("s3cret"), "{found:?}");
    }
}

#[test]
fn every_problem_is_reported_at_once_with_line_and_column() {
    let text = "[gateway]\nlisten = \"nowhere\"\nworker = 3\n\n[jurnal]\ndir = \"x\"\n\
                [journal]\nsync = \"often\"\nkeep = 5\ndisk_max = \"4GB\"\n\
                [store]\nurl = \"mysql://x\"\n";
    let found = problems(text);
    let starts = [
        "line 2, column 10: gateway.listen: ",
        "line 3, column 1: gateway.worker: is not known; did you mean `workers`?",
        "line 5, column 2: jurnal: is not known; did you mean `journal`?",
        "line 8, column 8: journal.sync: must be \"fast\" or \"durable\", found \"often\"",
        "line 9, column 8: journal.keep: expected text, found a number",
        "line 10, column 12: journal.disk_max: ",
        "line 12, column 7: store.url: must begin with sqlite://",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (problem, start) in found.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}\n{start}");
    }
}

#[test]
fn broken_toml_is_told_with_its_place() {
    let found = problems("[gateway]\nlisten = \n");
    assert!(found[0].starts_with("line 2, column "), "{found:?}");
}

#[test]
fn the_environment_overrides_the_file_and_is_checked_too() {
    let environment = [
        (
            "TOLLGATE__GATEWAY__LISTEN".to_owned(),
            "127.0.0.1:9000".to_owned(),
        ),
        (
            "TOLLGATE__GATEWAY__TRUSTED_PROXIES".to_owned(),
            "[\"10.0.0.0/8\"]".to_owned(),
        ),
        ("TOLLGATE__JOURNAL__SHIP_BATCH".to_owned(), "50".to_owned()),
        ("PATH".to_owned(), "/bin".to_owned()),
    ];
    let text = "[gateway]\nlisten = \"127.0.0.1:1\"\n";
    let config = read(text, environment.into_iter(), base()).unwrap();
    assert_eq!(config.gateway_listen, "127.0.0.1:9000".parse().unwrap());
    assert_eq!(config.trusted_proxies.len(), 1);
    assert_eq!(config.ship_batch, 50);
    let bad = [("TOLLGATE__STORE__URI".to_owned(), "x".to_owned())];
    let problems = read("", bad.into_iter(), base()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].field, "store.uri");
}

#[test]
fn the_schema_knows_every_setting() {
    let schema = schema();
    for field in FIELDS {
        let property = &schema["properties"][field.section]["properties"][field.name];
        assert!(
            property["description"].is_string(),
            "{}.{}",
            field.section,
            field.name
        );
    }
}
