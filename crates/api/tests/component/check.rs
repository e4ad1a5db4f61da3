//! Decisions: `quota/check`, `keys/verify`, `me`.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::app::{App, faults, names, request};

async fn check_alone(app: &App, query: &str) -> crate::app::Answer {
    let path = format!("/api/v1/quota/check{query}");
    app.send(request("GET", &path, String::new())).await
}

#[tokio::test]
async fn the_key_alone_suffices_and_every_field_is_there() {
    let app = App::start().await;
    app.gateway.used.store(850, Ordering::Relaxed);
    let key = app.key("acme-widgets").await;
    let secret = key["key"].as_str().unwrap();
    for query in ["subscription_key", "subscriptionKey"] {
        let answer = check_alone(&app, &format!("?{query}={secret}")).await;
        insta::assert_json_snapshot!("quota_check", answer.expect(200));
    }
    for header in ["x-subscription-key", "x-api-key"] {
        let mut request = request("GET", "/api/v1/quota/check", String::new());
        let name: http::HeaderName = header.parse().unwrap();
        request.headers_mut().insert(name, secret.parse().unwrap());
        assert_eq!(app.send(request).await.expect(200)["allowed"], true);
    }
    let headers = [("authorization", format!("Bearer {secret}"))];
    let headers = [(headers[0].0, headers[0].1.as_str())];
    let answer = app
        .call_with("GET", "/api/v1/quota/check", &headers, "")
        .await;
    assert_eq!(answer.expect(200)["allowed"], true);
}

#[tokio::test]
async fn a_wrong_key_is_answered_and_not_refused() {
    let app = App::start().await;
    let answer = check_alone(&app, "?subscription_key=hm_wrong")
        .await
        .expect(200);
    assert_eq!(answer["allowed"], false);
    assert_eq!(answer["reason"], "key_invalid");
    assert_eq!(answer["reset_at"], Value::Null);
    let key = app.key("acme-widgets").await;
    let id = key["id"].as_str().unwrap();
    app.call("DELETE", &format!("/api/v1/keys/{id}"), "")
        .await
        .expect(204);
    let query = format!("?subscription_key={}", key["key"].as_str().unwrap());
    let answer = check_alone(&app, &query).await.expect(200);
    assert_eq!(answer["reason"], "key_revoked");
}

#[tokio::test]
async fn units_are_weighed_and_nothing_is_consumed() {
    let app = App::start().await;
    app.gateway.used.store(990, Ordering::Relaxed);
    let key = app.key("acme-widgets").await;
    let query = format!("?subscription_key={}", key["key"].as_str().unwrap());
    for _ in 0..20 {
        let answer = check_alone(&app, &format!("{query}&units=10"))
            .await
            .expect(200);
        assert_eq!(
            (&answer["allowed"], &answer["remaining"]),
            (&json!(true), &json!(10))
        );
    }
    let answer = check_alone(&app, &format!("{query}&units=11"))
        .await
        .expect(200);
    assert_eq!(answer["allowed"], false);
    assert_eq!(answer["reason"], "quota_exceeded");
    assert_eq!(answer["retry_after"], 600_000);
    assert_eq!(answer["resetAt"], "2026-12-01T00:00:00.000000Z");
}

#[tokio::test]
async fn without_a_quota_remaining_is_null() {
    let app = App::start().await;
    let key = app.key("zoo-one").await;
    let query = format!("?subscription_key={}", key["key"].as_str().unwrap());
    let answer = check_alone(&app, &query).await.expect(200);
    assert_eq!(answer["allowed"], true);
    for field in ["remaining", "limit", "reset_at", "resetAt"] {
        assert_eq!(answer[field], Value::Null, "{field}");
    }
    assert_eq!(answer["usage_percentage"], 0.0);
}

#[tokio::test]
async fn operators_ask_by_id_with_the_scope_decide() {
    let app = App::start().await;
    let key = app.key("acme-widgets").await;
    let by_key = format!("?key_id={}", key["id"].as_str().unwrap());
    for query in ["?subscription_id=acme-widgets", &by_key] {
        let path = format!("/api/v1/quota/check{query}");
        assert_eq!(
            check_alone(&app, query).await.problem(401),
            "unauthenticated"
        );
        let reader = format!("Bearer {}", app.token("read").await);
        let headers = [("authorization", reader.as_str())];
        let answer = app.call_with("GET", &path, &headers, "").await;
        assert_eq!(answer.problem(403), "forbidden");
        let decider = format!("Bearer {}", app.token("decide").await);
        let headers = [("authorization", decider.as_str())];
        let answer = app.call_with("GET", &path, &headers, "").await.expect(200);
        assert_eq!(answer["limit"], 1000);
    }
    let unknown = app.get("/api/v1/quota/check?subscription_id=none").await;
    assert_eq!(unknown.problem(404), "subscription_not_found");
    let unknown = app.get("/api/v1/quota/check?key_id=key_none").await;
    assert_eq!(unknown.problem(404), "not_found");
}

#[tokio::test]
async fn bad_questions_name_every_parameter() {
    let app = App::start().await;
    let answer = app
        .get("/api/v1/quota/check?units=0&key_id=a&subscription_id=b&x=1")
        .await;
    let expected = [
        ("subscription_id", "duplicate"),
        ("units", "out_of_range"),
        ("x", "unknown"),
    ];
    assert_eq!(answer.faults(), faults(&expected));
    let answer = app.get("/api/v1/quota/check").await;
    assert_eq!(answer.faults(), faults(&[("subscription_key", "missing")]));
    let headers = [("x-api-key", "one"), ("x-subscription-key", "two")];
    let answer = app
        .call_with("GET", "/api/v1/quota/check", &headers, "")
        .await;
    assert_eq!(
        answer.faults(),
        faults(&[("x-subscription-key", "duplicate")])
    );
}

#[tokio::test]
async fn verify_tells_whose_key_it_is_and_weighs_the_scope() {
    let app = App::start().await;
    app.gateway.used.store(5_000, Ordering::Relaxed);
    let key = app.key("acme-widgets").await;
    let verify = async |scope: Value| {
        let body = json!({ "key": key["key"], "scope": scope });
        app.call("POST", "/api/v1/keys/verify", body)
            .await
            .expect(200)
    };
    let answer = verify(Value::Null).await;
    assert_eq!(answer["valid"], true, "limits do not matter");
    assert_eq!(answer["code"], Value::Null);
    assert_eq!(answer["key_id"], key["id"]);
    assert_eq!(answer["subscription_id"], "acme-widgets");
    assert_eq!(answer["organization_id"], "acme");
    assert_eq!(answer["plan"], "free");
    assert_eq!(answer["limits"][0]["remaining"], 0);
    assert_eq!(verify(json!("widgets:read")).await["valid"], true);
    let answer = verify(json!("widgets:write")).await;
    assert_eq!(answer["valid"], false);
    assert_eq!(answer["code"], "scope_missing");
    let body = json!({ "key": "hm_wrong" });
    let answer = app
        .call("POST", "/api/v1/keys/verify", body)
        .await
        .expect(200);
    assert_eq!(answer["valid"], false);
    assert_eq!(answer["code"], "key_invalid");
    assert_eq!(answer["key_id"], Value::Null);
}

#[tokio::test]
async fn verify_names_every_bad_field() {
    let app = App::start().await;
    let body = json!({ "scope": 7, "colour": "red" });
    let answer = app.call("POST", "/api/v1/keys/verify", body).await;
    let expected = [
        ("colour", "unknown"),
        ("key", "missing"),
        ("scope", "wrong_type"),
    ];
    assert_eq!(answer.faults(), faults(&expected));
}

#[tokio::test]
async fn a_caller_sees_its_own_key() {
    let app = App::start().await;
    app.gateway.used.store(3, Ordering::Relaxed);
    let key = app.key("acme-widgets").await;
    let secret = key["key"].as_str().unwrap();
    let bearer = format!("Bearer {secret}");
    for header in [("authorization", bearer.as_str()), ("x-api-key", secret)] {
        let mut request = request("GET", "/api/v1/me", String::new());
        let name: http::HeaderName = header.0.parse().unwrap();
        request
            .headers_mut()
            .insert(name, header.1.parse().unwrap());
        let me = app.send(request).await.expect(200);
        assert_eq!(me["key_id"], key["id"]);
        assert_eq!(me["plan"], "free");
        assert_eq!(me["limits"][0]["used"], 3);
        assert!(!names(&me).contains(&"key".to_owned()));
    }
    let id = key["id"].as_str().unwrap();
    app.call("DELETE", &format!("/api/v1/keys/{id}"), "")
        .await
        .expect(204);
    let headers = [("x-api-key", secret)];
    let answer = app.call_with("GET", "/api/v1/me", &headers, "").await;
    assert_eq!(answer.problem(401), "unauthenticated");
}

#[tokio::test]
async fn an_address_may_ask_for_itself_ten_times_a_second() {
    let app = App::start().await;
    let key = app.key("acme-widgets").await;
    let ask = async |address: &str| {
        let mut request = request("GET", "/api/v1/me", String::new());
        let secret = key["key"].as_str().unwrap().parse().unwrap();
        request.headers_mut().insert("x-api-key", secret);
        let address: std::net::SocketAddr = address.parse().unwrap();
        request
            .extensions_mut()
            .insert(axum::extract::ConnectInfo(address));
        app.send(request).await
    };
    for _ in 0..10 {
        ask("192.0.2.1:1000").await.expect(200);
    }
    let answer = ask("192.0.2.1:2000").await;
    assert_eq!(answer.problem(429), "rate_limited");
    assert_eq!(answer.header("retry-after"), "1");
    ask("192.0.2.2:1000").await.expect(200);
    app.clock.advance_s(1);
    ask("192.0.2.1:1000").await.expect(200);
}
