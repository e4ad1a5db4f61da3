//! Files that are wrong, and what applying good ones does.

use std::fmt::Write;

use serde_json::json;
use tollgate_model::{Managed, SubscriptionState};
use tollgate_store::{CatalogStore, ObjectKind};

use super::*;
use crate::testing::{BEGIN, House, options};
use crate::{EXAMPLE_CATALOG, Object};

/// Every problem as `line:column field code`, one a line.
fn problems(text: &str) -> String {
    let mut out = String::new();
    for problem in check_catalog(text).err().unwrap_or_default() {
        let place = (problem.line.unwrap_or(0), problem.column.unwrap_or(0));
        let code = problem.code.as_str();
        writeln!(out, "{}:{} {} {code}", place.0, place.1, problem.field).unwrap();
    }
    out
}

#[test]
fn the_shipped_example_is_a_good_catalog() {
    assert_eq!(check_catalog(EXAMPLE_CATALOG), Ok(()));
    // Its comments name fields: all of them are ones that the reader knows.
    let mut all = String::new();
    for line in EXAMPLE_CATALOG.lines() {
        let bare = line.strip_prefix("# ").filter(|rest| {
            let name = rest.split(" = ").next().unwrap_or("");
            rest.contains(" = ") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        });
        let bare = bare.filter(|rest| !rest.starts_with("on_exceeded"));
        all.push_str(bare.unwrap_or(line));
        all.push('\n');
    }
    let all = all
        .replace("anonymous_plan = \"demo\"", "anonymous_plan = \"free\"")
        .replace("scopes = [", "# scopes = [");
    assert_eq!(problems(&all), "");
    assert!(all.contains("\nbody_bytes_max = \"10MiB\""));
}

#[test]
fn every_field_of_the_documented_catalog_is_read() {
    let text = r#"
        [[api]]
        id = "widgets"
        upstreams = ["http://127.0.0.1:9001"]
        path_prefix = "/v1"
        host = "api.example.com"
        key_prefix = "hm"
        anonymous_plan = "demo"
        charge = ["2xx", "3xx", "4xx", "503"]
        on_journal_full = "refuse"
        on_counters_lost = { open = 100 }
        on_stale_catalog = "refuse"
        stale_after = "7s"
        mode = "enforce"
        encoded_slash = "pass"
        unlisted = "refuse"
        preserve_host = true
        connect_timeout = "1s"
        response_timeout = "5s"
        body_bytes_max = "1MiB"
        [[api.route]]
        path = "/v1/widgets/{id}"
        methods = ["GET"]
        cost = 1
        cost_max = 50
        scope = "widgets:read"
        limits = ["strict", { max = 3, per = "second", by = "address", shadow = true }]
        open = false
        labels = { source = "wiki" }
        [[limit]]
        id = "strict"
        max = 10
        per = "minute"
        [[plan]]
        id = "demo"
        name = "Demo"
        price = { amount = "0.50", currency = "USD", every = "month" }
        quota = { units = 1000, every = "month", on_exceeded = "grace", grace_percent = 10 }
        overage = { price = "0.001", per = 1 }
        period = "anniversary"
        scopes = ["widgets:read"]
        keys_max = 5
        limits = ["strict"]
        [[organization]]
        id = "acme"
        name = "Acme"
        [[subscription]]
        id = "acme-widgets"
        organization = "acme"
        apis = ["widgets"]
        plan = "demo"
        time_zone = "Europe/Berlin"
        started_on = 2026-01-31
    "#;
    assert_eq!(problems(text), "");
}

const GOOD_API: &str = r#"
[[api]]
id = "a"
upstreams = ["http://h:1"]
path_prefix = "/a"
"#;

#[test]
fn all_problems_are_told_at_once_with_line_and_column() {
    let text = r#"
[[api]]
id = "Widgets"
upstreems = ["http://127.0.0.1:9001"]
path_prefix = "/v1/"
mode = "observ"

[[plan]]
id = "free"
quota = { units = -1, every = "fortnight", on_exceeded = "grace" }
limits = ["strict", 5, { max = 1.5, per = "minute", colour = "red" }]
keys_max = "many"

[[subscription]]
id = "s"
organization = "acme"
apis = []
time_zone = "Mars/Olympus"
started_on = "2026-02-30"
state = "active"

[servers]
"#;
    let expected = "\
2:1 api \"Widgets\": upstreams missing
3:6 api \"Widgets\": id invalid
4:1 api \"Widgets\": upstreems unknown
5:15 api \"Widgets\": path_prefix invalid
6:8 api \"Widgets\": mode invalid
10:9 plan \"free\": quota.grace_percent missing
10:19 plan \"free\": quota.units out_of_range
10:31 plan \"free\": quota.every invalid
11:21 plan \"free\": limits[1] wrong_type
11:32 plan \"free\": limits[2].max wrong_type
11:53 plan \"free\": limits[2].colour unknown
12:12 plan \"free\": keys_max wrong_type
14:1 subscription \"s\": plan missing
17:8 subscription \"s\": apis out_of_range
18:13 subscription \"s\": time_zone invalid
19:14 subscription \"s\": started_on invalid
20:1 subscription \"s\": state unknown
22:2 servers unknown
";
    assert_eq!(problems(text), expected);
}

#[test]
fn details_say_what_to_write_instead() {
    let detail = |text: &str| {
        let found = check_catalog(&format!("{GOOD_API}{text}")).unwrap_err();
        found
            .into_iter()
            .map(|p| p.detail)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(
        detail("upstream = 1"),
        "is not known; did you mean `upstreams`?"
    );
    assert_eq!(
        detail("mode = \"observ\""),
        "must be \"enforce\" or \"observe\", found \"observ\"; did you mean \"observe\"?"
    );
    assert_eq!(
        detail(
            "[[plan]]\nid = \"fre\"\n[[organization]]\nid = \"o\"\n[[subscription]]\nid = \"s\"\norganization = \"o\"\napis = [\"a\"]\nplan = \"free\""
        ),
        "there is no plan \"free\"; did you mean \"fre\"?"
    );
    assert_eq!(detail("connect_timeout = \"2d\""), "must be 1ms to 1d");
    assert_eq!(
        detail("body_bytes_max = true"),
        "expected a whole number, found true or false"
    );
}

#[test]
fn objects_must_agree_with_each_other() {
    let text = r#"
[[api]]
id = "a"
upstreams = ["http://h:1"]
path_prefix = "/v1"
anonymous_plan = "demo"
[[api.route]]
path = "/v1/x/{id}"
limits = ["strict"]
[[api.route]]
path = "/v1/x/{name}"
methods = ["GET"]
[[api.route]]
path = "/v2"
[[api]]
id = "b"
upstreams = ["http://h:1", "http://h:1/"]
path_prefix = "/v1"
[[api]]
id = "c"
upstreams = ["http://h:1"]
path_prefix = "/v1"
[[api]]
id = "c"
upstreams = ["http://h:1"]
host = "C"
[[subscription]]
id = "s"
organization = "acme"
apis = ["a", "c", "d"]
plan = "free"
"#;
    // `a` and `b` cannot be read, so nothing is told of who refers to them or shares their place.
    let expected = "\
11:8 api \"a\": route[1].path duplicate
14:8 api \"a\": route[2].path invalid
17:28 api \"b\": upstreams[1] duplicate
24:6 api \"c\": id duplicate
29:16 subscription \"s\": organization unresolved
30:19 subscription \"s\": apis[2] unresolved
31:8 subscription \"s\": plan unresolved
";
    assert_eq!(problems(text), expected);
    let taken = "[[api]]\nid = \"b\"\nupstreams = [\"http://h:1\"]\npath_prefix = \"/a\"";
    assert_eq!(
        problems(&format!("{GOOD_API}{taken}")),
        "9:15 api \"b\": path_prefix duplicate\n"
    );
    let elsewhere = format!("{GOOD_API}{taken}\nhost = \"b.example.com\"");
    assert_eq!(problems(&elsewhere), "");
}

#[test]
fn mistakes_of_syntax_are_told_with_their_place() {
    assert_eq!(
        problems("[[api]]\nid = \"a\"\nid = \"b\"\n"),
        "3:1  duplicate\n"
    );
    assert_eq!(problems("[[api]]\nid = \"a\n"), "2:8  invalid\n");
    assert_eq!(problems("[api]\nid = \"a\"\n"), "1:1 api wrong_type\n");
}

/// One line added to an API or plan, and the problem it makes.
type Cases = &'static [(&'static str, &'static str)];

const WRONG_IN_AN_API: Cases = &[
    ("charge = [\"6xx\"]", "charge[0] invalid"),
    ("charge = [600]", "charge[0] out_of_range"),
    ("charge = [\"2xx\", \"2xx\"]", "charge[1] duplicate"),
    (
        "on_counters_lost = { open = -1 }",
        "on_counters_lost.open out_of_range",
    ),
    ("on_counters_lost = \"open\"", "on_counters_lost invalid"),
    ("on_counters_lost = 5", "on_counters_lost wrong_type"),
    ("stale_after = \"0s\"", "stale_after out_of_range"),
    ("response_timeout = 30", "response_timeout wrong_type"),
    ("host = \"http://x\"", "host invalid"),
    ("key_prefix = \"hm_\"", "key_prefix invalid"),
    ("key_prefix = \"hm_test\"", "key_prefix invalid"),
    ("preserve_host = \"yes\"", "preserve_host wrong_type"),
    ("[[api.route]]\npath = \"v1\"", "route[0].path invalid"),
    ("[[api.route]]\npath = \"/a/{x\"", "route[0].path invalid"),
    ("[[api.route]]\npath = \"/ab\"", "route[0].path invalid"),
    (
        "[[api.route]]\npath = \"/a\"\nmethods = [\"GE T\"]",
        "route[0].methods[0] invalid",
    ),
    (
        "[[api.route]]\npath = \"/a\"\ncost = 5\ncost_max = 4",
        "route[0].cost_max out_of_range",
    ),
    (
        "[[api.route]]\npath = \"/a\"\nopen = true\nscope = \"s\"",
        "route[0].scope invalid",
    ),
    (
        "[[api.route]]\npath = \"/a\"\nscope = \"a b\"",
        "route[0].scope invalid",
    ),
    (
        "[[api.route]]\npath = \"/a\"\nlabels = { a = 1 }",
        "route[0].labels.a wrong_type",
    ),
    (
        "[[api.route]]\npath = \"/a\"\nlimits = [\"no\"]",
        "route[0].limits[0] unresolved",
    ),
];

const WRONG_IN_A_PLAN: Cases = &[
    (
        "price = { amount = 1.5, currency = \"USD\" }",
        "price.amount wrong_type",
    ),
    (
        "price = { amount = \"-1\", currency = \"USD\" }",
        "price.amount invalid",
    ),
    (
        "price = { amount = \"1\", currency = \"usd\" }",
        "price.currency invalid",
    ),
    ("overage = { price = \"1\" }", "overage invalid"),
    ("quota = { units = 1 }", "quota.every missing"),
    (
        "quota = { units = 9007199254740993, every = \"day\" }",
        "quota.units out_of_range",
    ),
    (
        "quota = { units = 1, every = \"day\", grace_percent = 5 }",
        "quota.grace_percent invalid",
    ),
    (
        "limits = [{ max = 4000000001, per = \"day\" }]",
        "limits[0].max out_of_range",
    ),
    (
        "limits = [{ max = 1, per = \"week\" }]",
        "limits[0].per invalid",
    ),
    (
        "limits = [{ max = 1, per = \"day\", by = \"user\" }]",
        "limits[0].by invalid",
    ),
    ("name = \"\"", "name out_of_range"),
    ("period = \"lunar\"", "period invalid"),
];

#[test]
fn fields_out_of_their_range_are_refused_one_by_one() {
    let check = |start: &str, name: &str, line: &str, expected: &str| {
        let found = problems(&format!("{start}{line}\n"));
        let (_, found) = found.trim_end().split_once(' ').unwrap_or_default();
        assert_eq!(found, format!("{name}: {expected}"), "{line}");
    };
    for (line, expected) in WRONG_IN_AN_API {
        check(GOOD_API, "api \"a\"", line, expected);
    }
    for (line, expected) in WRONG_IN_A_PLAN {
        check("[[plan]]\nid = \"p\"\n", "plan \"p\"", line, expected);
    }
}

fn ids(changes: &[AppliedChange]) -> Vec<String> {
    let name = |change: &AppliedChange| format!("{} {}", change.kind, change.id);
    changes.iter().map(name).collect()
}

#[tokio::test]
async fn applying_the_same_file_again_changes_nothing() {
    let house = House::empty().await;
    let first = house.apply(EXAMPLE_CATALOG).await;
    assert_eq!(first.added.len(), 13);
    let version = house.store.catalog_version().await.unwrap();
    house.clock.pass_us(86_400_000_000);
    let second = house.apply(EXAMPLE_CATALOG).await;
    assert!(second.is_empty(), "{second:?}");
    assert_eq!(second.unchanged, 13);
    assert_eq!(house.store.catalog_version().await.unwrap(), version);
}

#[tokio::test]
async fn a_dry_run_tells_the_same_and_does_nothing() {
    let house = House::empty().await;
    let dry = ApplyOptions {
        dry_run: true,
        ..options(false)
    };
    let told = house.control.apply(EXAMPLE_CATALOG, &dry).await.unwrap();
    assert!(told.dry_run);
    assert_eq!(house.store.catalog_version().await.unwrap(), 0);
    let done = house.apply(EXAMPLE_CATALOG).await;
    assert_eq!(told.added, done.added);
}

#[tokio::test]
async fn changed_objects_are_told_field_by_field_and_raise_their_plans_version() {
    let house = House::example().await;
    let text = EXAMPLE_CATALOG.replace("units = 1000,", "units = 2000,");
    let report = house.apply(&text).await;
    assert_eq!(report.unchanged, 12);
    assert_eq!(
        serde_json::to_value(&report.changed).unwrap(),
        json!([{"kind": "plan", "id": "free", "fields": [
            {"field": "quota.units", "old": 1000, "new": 2000},
            {"field": "version", "old": 1, "new": 2},
        ]}])
    );
}

#[tokio::test]
async fn what_a_file_no_longer_names_belongs_to_the_api_unless_pruned() {
    let house = House::example().await;
    let start = EXAMPLE_CATALOG.find("[[organization]]").unwrap();
    let without_customers = &EXAMPLE_CATALOG[..start];
    let report = house.apply(without_customers).await;
    assert_eq!(
        ids(&report.kept),
        ["organization acme", "subscription acme-widgets"]
    );
    assert!(report.removed.is_empty());
    let control = &house.control;
    let released = control
        .get_object(ObjectKind::Subscription, "acme-widgets")
        .unwrap();
    assert_eq!(released.managed, Managed::Api);
    assert!(house.apply(without_customers).await.is_empty());
    // Released objects are no longer the file's, so pruning leaves them alone.
    let pruned = control
        .apply(without_customers, &options(true))
        .await
        .unwrap();
    assert!(pruned.is_empty());
    // Named again, they are the file's again, and pruning takes them away.
    let report = house.apply(EXAMPLE_CATALOG).await;
    assert_eq!(
        ids(&report.changed),
        ["organization acme", "subscription acme-widgets"]
    );
    let report = control
        .apply(without_customers, &options(true))
        .await
        .unwrap();
    assert_eq!(
        ids(&report.removed),
        ["organization acme", "subscription acme-widgets"]
    );
    assert!(
        control
            .get_object(ObjectKind::Organization, "acme")
            .is_err()
    );
}

#[tokio::test]
async fn a_watched_file_never_removes_anything() {
    let house = House::example().await;
    let report = house
        .control
        .apply_watched("", "catalog.toml")
        .await
        .unwrap();
    assert_eq!(report.kept.len(), 13);
    assert!(report.removed.is_empty());
    let audit = house.store.list_audit(1).await.unwrap();
    assert_eq!(audit[0].actor, "file:catalog.toml");
    assert!(house.control.get_object(ObjectKind::Api, "widgets").is_ok());
}

#[tokio::test]
async fn a_subscriptions_state_and_anchor_survive_the_file() {
    let house = House::example().await;
    let control = &house.control;
    let suspend = json!({"state": "suspended"});
    control
        .patch_object(ObjectKind::Subscription, "acme-widgets", &suspend, "test")
        .await
        .unwrap();
    house.clock.pass_us(40 * 86_400_000_000);
    let text = EXAMPLE_CATALOG.replace("plan = \"free\"\n", "plan = \"pro\"\n");
    assert_eq!(house.apply(&text).await.changed.len(), 1);
    let entry = control
        .get_object(ObjectKind::Subscription, "acme-widgets")
        .unwrap();
    let Object::Subscription(subscription) = entry.object else {
        panic!("not a subscription");
    };
    assert_eq!(subscription.plan.as_str(), "pro");
    assert_eq!(subscription.state, SubscriptionState::Suspended);
    assert_eq!(subscription.created_at, BEGIN);
    assert_eq!(subscription.started_on, jiff::civil::date(2025, 11, 24));
}

#[tokio::test]
async fn a_file_with_a_problem_changes_nothing() {
    let house = House::example().await;
    let text = EXAMPLE_CATALOG
        .replace("units = 1000,", "units = 2000,")
        .replace("\"GET\"]", "1]");
    let failed = house.control.apply(&text, &options(true)).await;
    assert!(matches!(failed, Err(ControlError::Invalid(_))));
    assert!(house.sink.take().is_empty());
    // Pruning what an object of the API still refers to is a problem too.
    let sub = json!({"organization": "acme", "apis": ["widgets"], "plan": "pro"});
    house
        .control
        .create_object(ObjectKind::Subscription, &sub, "test")
        .await
        .unwrap();
    let without = EXAMPLE_CATALOG.replace("id = \"pro\"", "id = \"pro-2\"");
    let failed = house.control.apply(&without, &options(true)).await;
    let Err(ControlError::Invalid(problems)) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(problems.len(), 1);
    assert!(problems[0].field.starts_with("subscription \"sub_"));
    assert!(problems[0].field.ends_with("\": plan"));
}
