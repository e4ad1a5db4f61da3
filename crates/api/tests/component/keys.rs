//! API keys.

use serde_json::{Value, json};

use crate::app::{App, faults, names};

#[tokio::test]
async fn a_key_is_shown_with_its_secret_once() {
    let app = App::start().await;
    let key = app.key("acme-widgets").await;
    let secret = key["key"].as_str().unwrap();
    assert!(secret.starts_with("hm_") && secret.len() == 35, "{secret}");
    assert!(secret.ends_with(key["last4"].as_str().unwrap()));
    insta::assert_json_snapshot!("key", key);
    let id = key["id"].as_str().unwrap();
    let mut shown = key.clone();
    shown.as_object_mut().unwrap().remove("key");
    assert_eq!(
        app.get(&format!("/api/v1/keys/{id}")).await.expect(200),
        shown
    );
    let list = app.get("/api/v1/keys").await;
    assert_eq!(list.expect(200)["items"], json!([shown]));
    assert!(!list.text.contains(secret));
    let audit = app.get("/api/v1/audit").await;
    assert!(audit.text.contains("key.create") && !audit.text.contains(secret));
}

#[tokio::test]
async fn older_names_are_read_and_answered_in_the_present_spelling() {
    let app = App::start().await;
    let body = json!({ "userId": "acme", "name": "k", "expiresAt": "2026-11-24T00:00:00+01:00" });
    let key = app.call("POST", "/api/v1/keys", body).await.expect(201);
    assert_eq!(key["subscription_id"], "acme-widgets");
    assert_eq!(key["expires_at"], "2026-11-23T23:00:00.000000Z");
    assert!(
        names(&key)
            .iter()
            .all(|name| !name.contains(|c: char| c.is_uppercase()))
    );
    let body = json!({ "userId": "zoo", "name": "k" });
    let answer = app.call("POST", "/api/v1/keys", body).await;
    assert_eq!(answer.problem(404), "subscription_not_found");
    let list = app.get("/api/v1/keys?userId=acme").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let list = app
        .get("/api/v1/keys?subscriptionId=zoo-one")
        .await
        .expect(200);
    assert_eq!(list, json!({ "items": [], "next_cursor": null }));
    let answer = app.get("/api/v1/keys?userId=zoo").await;
    assert_eq!(answer.problem(404), "subscription_not_found");
}

#[tokio::test]
async fn bad_input_names_every_field() {
    let app = App::start().await;
    let body = json!({
        "name": "", "scopes": "all", "expires_at": "soon", "allowed_addresses": ["10.0.0.1/8"],
        "limits": [{ "max": -1, "per": "minute" }], "quota": { "units": 1 }, "test": "yes",
        "metadata": [], "colour": "red",
    });
    let answer = app.call("POST", "/api/v1/keys", body).await;
    let named: Vec<String> = answer
        .faults()
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    let expected = [
        "allowed_addresses[0]",
        "colour",
        "expires_at",
        "limits[0].max",
        "metadata",
        "name",
        "quota.every",
        "scopes",
        "subscription_id",
        "test",
    ];
    assert_eq!(named, expected);
    let list = app.get("/api/v1/keys").await.expect(200);
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn bodies_that_are_no_object_are_told_apart() {
    let app = App::start().await;
    for (body, code) in [
        ("", "invalid"),
        ("{\"a\":", "invalid"),
        ("[]", "wrong_type"),
    ] {
        let answer = app.call("POST", "/api/v1/keys", body).await;
        assert_eq!(answer.faults(), faults(&[("", code)]), "{body}");
    }
}

#[tokio::test]
async fn scopes_beyond_the_plan_are_well_formed_but_impossible() {
    let app = App::start().await;
    let body =
        json!({ "subscription_id": "acme-widgets", "name": "k", "scopes": ["widgets:burn"] });
    let answer = app.call("POST", "/api/v1/keys", body).await;
    assert_eq!(answer.problem(422), "unprocessable");
}

#[tokio::test]
async fn a_key_is_changed_by_a_merge_patch() {
    let app = App::start().await;
    let key = app.key("acme-widgets").await;
    let path = format!("/api/v1/keys/{}", key["id"].as_str().unwrap());
    let patch = json!({ "name": "other", "state": "disabled", "externalId": "7" });
    let changed = app.call("PATCH", &path, patch).await.expect(200);
    assert_eq!(changed["state"], "disabled");
    assert_eq!(changed["name"], "other");
    assert_eq!(changed["external_id"], "7");
    assert_eq!(changed["subscription_id"], "acme-widgets");
    let patch = json!({ "external_id": null, "state": "active" });
    let changed = app.call("PATCH", &path, patch).await.expect(200);
    assert_eq!(changed["external_id"], Value::Null);
    assert_eq!(changed["state"], "active");
    let patch = json!({ "state": "revoked", "name": 7, "prefix": "xx" });
    let answer = app.call("PATCH", &path, patch).await;
    assert_eq!(answer.problem(400), "request_invalid");
    let answer = app
        .call("PATCH", "/api/v1/keys/key_none", json!({ "name": "x" }))
        .await;
    assert_eq!(answer.problem(404), "not_found");
}

#[tokio::test]
async fn a_revoked_key_stays_listed_and_revoked() {
    let app = App::start().await;
    let key = app.key("acme-widgets").await;
    let path = format!("/api/v1/keys/{}", key["id"].as_str().unwrap());
    app.clock.advance_s(5);
    app.call("DELETE", &path, "").await.expect(204);
    app.clock.advance_s(5);
    app.call("DELETE", &path, "").await.expect(204);
    let shown = app.get(&path).await.expect(200);
    assert_eq!(shown["state"], "revoked");
    assert_eq!(shown["revoked_at"], "2026-11-23T14:37:17.000000Z");
    let answer = app.call("PATCH", &path, json!({ "name": "x" })).await;
    assert_eq!(answer.problem(409), "conflict");
    let answer = app.call("DELETE", "/api/v1/keys/key_none", "").await;
    assert_eq!(answer.problem(404), "not_found");
}

#[tokio::test]
async fn a_key_whose_time_is_over_shows_as_expired() {
    let app = App::start().await;
    let body = json!({
        "subscription_id": "acme-widgets", "name": "k", "expires_at": "2026-11-23T14:38:00Z",
    });
    let key = app.call("POST", "/api/v1/keys", body).await.expect(201);
    assert_eq!(key["state"], "active");
    app.clock.advance_s(60);
    let path = format!("/api/v1/keys/{}", key["id"].as_str().unwrap());
    assert_eq!(app.get(&path).await.expect(200)["state"], "expired");
}

#[tokio::test]
async fn lists_come_in_pages_newest_first() {
    let app = App::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        app.clock.advance_s(1);
        made.push(app.key("acme-widgets").await["id"].clone());
    }
    made.reverse();
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = app
            .get(&format!("/api/v1/keys?limit=2{cursor}"))
            .await
            .expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        found.extend(items.iter().map(|key| key["id"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(found, made);
    let answer = app.get("/api/v1/keys?limit=1001&cursor=").await;
    let expected = [("cursor", "invalid"), ("limit", "out_of_range")];
    assert_eq!(answer.faults(), faults(&expected));
}
