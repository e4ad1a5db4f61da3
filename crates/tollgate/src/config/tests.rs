//! Configurations that hold and that do not.

use super::*;

fn problems(text: &str) -> Vec<String> {
    match read(text, std::iter::empty()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_commented_file_holds_and_says_the_defaults() {
    let values = read(&template(), std::iter::empty()).unwrap();
    let config = build(&values, Path::new("/etc/gate"));
    assert_eq!(config.gateway_listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.store_file, Path::new("/etc/gate/tollgate.db"));
    assert_eq!(config.journal_keep_us, 86_400_000_000);
    assert_eq!(config.journal_disk_bytes_max, 4 << 30);
    assert_eq!(config.catalog_file, Some("/etc/gate/catalog.toml".into()));
    assert!(!config.journal_durable);
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = build(&read("", std::iter::empty()).unwrap(), Path::new("."));
    assert_eq!(config.health_listen, "127.0.0.1:8082".parse().unwrap());
    assert_eq!(config.catalog_file, None);
    assert_eq!(config.node, None);
}

#[test]
fn every_problem_is_reported_at_once_with_line_and_column() {
    let text = "[gateway]\nlisten = \"nowhere\"\nworker = 3\n\n[jurnal]\ndir = \"x\"\n\
                [journal]\nsync = \"often\"\nkeep = 5\ndisk_max = \"4GB\"\n";
    assert_eq!(
        problems(text),
        [
            "line 2, column 10: gateway.listen: expected an address and port such as \
             \"127.0.0.1:8080\", found \"nowhere\"",
            "line 3, column 1: gateway.worker: is no setting; did you mean workers?",
            "line 5, column 2: jurnal: is no section; did you mean journal?",
            "line 8, column 8: journal.sync: expected one of fast, durable, found \"often\"",
            "line 9, column 8: journal.keep: expected a duration such as \"250ms\", \"15m\" or \
             \"24h\", found 5",
            "line 10, column 12: journal.disk_max: expected a size such as \"64MiB\" or \"4GiB\", \
             found \"4GB\"",
        ]
    );
}

#[test]
fn broken_toml_is_one_problem_with_its_place() {
    let found = problems("[gateway]\nlisten = \n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("line 2, column "), "{found:?}");
}

#[test]
fn the_environment_overrides_the_file_and_is_checked_too() {
    let environment = [
        ("TOLLGATE__GATEWAY__LISTEN".to_owned(), "127.0.0.1:9000".to_owned()),
        ("TOLLGATE__GATEWAY__TRUSTED_PROXIES".to_owned(), "10.0.0.0/8, ::1/128".to_owned()),
        ("TOLLGATE__JOURNAL__SHIP_BATCH".to_owned(), "50".to_owned()),
        ("PATH".to_owned(), "/bin".to_owned()),
    ];
    let values = read("[gateway]\nlisten = \"127.0.0.1:1\"\n", environment.into_iter()).unwrap();
    let config = build(&values, Path::new("."));
    assert_eq!(config.gateway_listen, "127.0.0.1:9000".parse().unwrap());
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(config.ship_batch, 50);
    let bad = [("TOLLGATE__STORE__URI".to_owned(), "x".to_owned())];
    let problems = read("", bad.into_iter()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().starts_with("TOLLGATE__STORE__URI: overrides no setting"));
}

#[test]
fn the_schema_knows_every_setting() {
    let schema = schema();
    for field in FIELDS {
        let property = &schema["properties"][field.section]["properties"][field.name];
        assert!(property["description"].is_string(), "{}.{}", field.section, field.name);
    }
}
