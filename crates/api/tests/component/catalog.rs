//! Catalog objects, and files against them.

use serde_json::json;

use crate::app::{App, CATALOG, faults};

#[tokio::test]
async fn every_kind_is_made_listed_read_changed_and_deleted() {
    let app = App::start().await;
    let cases = [
        (
            "limits",
            json!({ "max": 5, "per": "second" }),
            json!({ "max": 6 }),
        ),
        (
            "plans",
            json!({ "name": "Gold" }),
            json!({ "limits": ["strict"] }),
        ),
        (
            "apis",
            json!({ "upstreams": ["http://127.0.0.1:9002"], "pathPrefix": "/v2" }),
            json!({ "mode": "observe" }),
        ),
        (
            "organizations",
            json!({ "name": "New" }),
            json!({ "name": "Newer" }),
        ),
        (
            "subscriptions",
            json!({ "organization": "acme", "apis": ["widgets"], "tier": "free" }),
            json!({ "state": "suspended" }),
        ),
    ];
    for (kind, input, patch) in cases {
        let path = format!("/api/v1/{kind}");
        let made = app.call("POST", &path, &input).await.expect(201);
        assert_eq!(made["managed"], "api", "{kind}");
        let id = made["id"].as_str().unwrap();
        let one = format!("{path}/{id}");
        assert_eq!(app.get(&one).await.expect(200), made);
        let list = app.get(&path).await.expect(200);
        assert!(list["items"].as_array().unwrap().contains(&made), "{kind}");
        let changed = app.call("PATCH", &one, &patch).await.expect(200);
        for (field, value) in patch.as_object().unwrap() {
            assert_eq!(&changed[field], value, "{kind}");
        }
        app.call("DELETE", &one, "").await.expect(204);
        assert_eq!(app.get(&one).await.status, 404, "{kind}");
        let again = app.call("DELETE", &one, "").await.status;
        assert_eq!(again, 404, "{kind}");
        let list = app.get(&format!("{path}?limit=1")).await.expect(200);
        assert!(list["items"].as_array().unwrap().len() <= 1);
    }
}

#[tokio::test]
async fn bad_objects_name_every_field() {
    let app = App::start().await;
    let cases = [
        (
            "limits",
            json!({ "max": "many", "per": "week" }),
            vec!["max", "per"],
        ),
        (
            "plans",
            json!({ "quota": { "units": -1, "every": "hour" }, "colour": 1 }),
            vec!["colour", "quota.every", "quota.units"],
        ),
        (
            "apis",
            json!({ "id": "No", "upstreams": [], "route": [{ "path": "x" }] }),
            vec!["id", "path_prefix", "route[0].path", "upstreams"],
        ),
        (
            "organizations",
            json!({ "name": 7, "id": "a_b" }),
            vec!["id", "name"],
        ),
        (
            "subscriptions",
            json!({ "apis": "widgets", "time_zone": "Mars/Base" }),
            vec!["apis", "organization", "plan", "time_zone"],
        ),
    ];
    for (kind, input, expected) in cases {
        let answer = app.call("POST", &format!("/api/v1/{kind}"), &input).await;
        let named: Vec<String> = answer
            .faults()
            .into_iter()
            .map(|(field, _)| field)
            .collect();
        assert_eq!(named, expected, "{kind}");
    }
    let body = json!({ "organization": "none", "apis": ["none"], "plan": "none" });
    let answer = app.call("POST", "/api/v1/subscriptions", body).await;
    let named: Vec<String> = answer
        .faults()
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    assert_eq!(named, ["apis[0]", "organization", "plan"]);
}

#[tokio::test]
async fn what_the_file_declares_is_changed_by_the_file_alone() {
    let app = App::start().await;
    let patch = json!({ "max": 11 });
    let answer = app.call("PATCH", "/api/v1/limits/strict", patch).await;
    assert_eq!(answer.problem(409), "managed_by_file");
    let answer = app.call("DELETE", "/api/v1/plans/free", "").await;
    assert_eq!(answer.problem(409), "managed_by_file");
    let patch = json!({ "state": "suspended" });
    let path = "/api/v1/subscriptions/acme-widgets";
    let changed = app.call("PATCH", path, patch).await.expect(200);
    assert_eq!(changed["state"], "suspended", "a state is never declared");
}

#[tokio::test]
async fn names_that_are_taken_and_things_in_use_are_conflicts() {
    let app = App::start().await;
    let body = json!({ "id": "acme" });
    let answer = app.call("POST", "/api/v1/organizations", body).await;
    assert_eq!(answer.problem(409), "already_exists");
    let plan = json!({ "id": "gold" });
    app.call("POST", "/api/v1/plans", plan).await.expect(201);
    let body = json!({ "organization": "acme", "apis": ["widgets"], "plan": "gold" });
    app.call("POST", "/api/v1/subscriptions", body)
        .await
        .expect(201);
    let answer = app.call("DELETE", "/api/v1/plans/gold", "").await;
    assert_eq!(answer.problem(409), "conflict");
}

#[tokio::test]
async fn a_subscription_shows_its_state_and_usage() {
    let app = App::start().await;
    let shown = app
        .get("/api/v1/subscriptions/acme-widgets")
        .await
        .expect(200);
    assert_eq!(shown["state"], "active");
    assert_eq!(shown["managed"], "file");
    assert_eq!(
        shown["usage"],
        json!({ "today": 0, "period": 0, "total": 0 })
    );
    let shown = app.get("/api/v1/subscriptions/zoo-one").await.expect(200);
    assert_eq!(shown["usage"]["period"], 0, "no quota: by month");
    let list = app
        .get("/api/v1/subscriptions?organization_id=zoo")
        .await
        .expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn applying_a_file_answers_the_difference_and_again_nothing() {
    let app = App::start().await;
    let file = CATALOG
        .replace("max = 10", "max = 12")
        .replace("id = \"open\"", "id = \"wide\"");
    let file = file.replace("plan = \"open\"", "plan = \"wide\"");
    let headers = [("content-type", "application/toml")];
    let diff = app
        .call_with("POST", "/api/v1/catalog/diff", &headers, &file)
        .await
        .expect(200);
    assert_eq!(diff["dry_run"], true);
    assert_eq!(diff["added"], json!([{ "kind": "plan", "id": "wide" }]));
    assert_eq!(diff["released"], json!([{ "kind": "plan", "id": "open" }]));
    let field = json!([{ "field": "max", "old": 10, "new": 12 }]);
    let strict = json!({ "kind": "limit", "id": "strict", "fields": field });
    assert!(
        diff["changed"].as_array().unwrap().contains(&strict),
        "{diff}"
    );
    let path = "/api/v1/catalog/apply?dry_run=true";
    assert_eq!(app.call("POST", path, &file).await.expect(200), diff);
    assert_eq!(
        app.get("/api/v1/limits/strict").await.expect(200)["max"],
        10
    );

    let path = "/api/v1/catalog/apply?prune=true";
    let report = app.call("POST", path, &file).await.expect(200);
    assert_eq!(report["dry_run"], false);
    assert_eq!(report["removed"], json!([{ "kind": "plan", "id": "open" }]));
    assert_eq!(
        app.get("/api/v1/limits/strict").await.expect(200)["max"],
        12
    );
    let again = app.call("POST", path, &file).await.expect(200);
    for list in ["added", "changed", "removed", "released"] {
        assert_eq!(again[list], json!([]), "{list}");
    }
    let audit = app.get("/api/v1/audit?limit=3").await.expect(200);
    assert_eq!(audit["items"].as_array().unwrap().len(), 3);
    assert_eq!(audit["items"][0]["actor"], "bootstrap");
}

#[tokio::test]
async fn a_broken_file_is_told_with_lines_and_columns_and_changes_nothing() {
    let app = App::start().await;
    let file = "[[plan]]\nid = \"free\"\nquota = { units = \"x\", every = \"month\" }\n\n[[limit]]\nid = \"a\"\nmax = 1\nper = \"week\"\n";
    let answer = app.call("POST", "/api/v1/catalog/apply", file).await;
    assert_eq!(answer.problem(400), "request_invalid");
    let body = answer.expect(400);
    let places: Vec<_> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["line"].as_u64().unwrap(), e["column"].as_u64().unwrap()))
        .collect();
    assert_eq!(places, [(3, 19), (8, 7)], "{body}");
    let answer = app.call("POST", "/api/v1/catalog/apply", "a = [").await;
    assert_eq!(answer.expect(400)["errors"][0]["line"], 1);
    let answer = app
        .call("POST", "/api/v1/catalog/apply?prune=maybe", "")
        .await;
    let expected = crate::app::faults(&[("prune", "invalid")]);
    assert_eq!(answer.faults(), expected);
}

/// A reader on the way may have taken the other one.
#[tokio::test]
async fn members_given_twice_are_refused_by_name() {
    let app = App::start().await;
    let body =
        r#"{"id":"gold","name":"Gold","quota":{"units":1,"every":"day","units":2},"id":"x"}"#;
    let answer = app.call("POST", "/api/v1/plans", body).await;
    assert_eq!(
        answer.faults(),
        faults(&[("quota.units", "duplicate"), ("id", "duplicate")])
    );
    assert_eq!(
        app.get("/api/v1/plans/gold").await.problem(404),
        "not_found"
    );
}
