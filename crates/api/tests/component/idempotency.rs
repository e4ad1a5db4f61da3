//! `Idempotency-Key`.

use std::sync::Arc;

use serde_json::json;

use crate::app::{App, Gate, faults};

const KEY: (&str, &str) = ("idempotency-key", "order-7");

#[tokio::test]
async fn a_repeated_post_is_answered_again_and_done_once() {
    let app = App::start().await;
    let body = json!({ "subscription_id": "acme-widgets", "name": "k" });
    let first = app.call_with("POST", "/api/v1/keys", &[KEY], &body).await;
    let again = app.call_with("POST", "/api/v1/keys", &[KEY], &body).await;
    assert_eq!(first.expect(201), again.expect(201));
    assert!(!first.headers.contains_key("idempotency-replayed"));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.header("content-type"), first.header("content-type"));
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    let list = app.get("/api/v1/keys").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_names_one_request_of_one_token() {
    let app = App::start().await;
    let body = json!({ "subscription_id": "acme-widgets", "name": "k" });
    let first = app
        .call_with("POST", "/api/v1/keys", &[KEY], &body)
        .await
        .expect(201);
    let other = json!({ "subscription_id": "acme-widgets", "name": "other" });
    let answer = app.call_with("POST", "/api/v1/keys", &[KEY], &other).await;
    assert_eq!(answer.problem(422), "idempotency_mismatch");
    let answer = app
        .call_with("POST", "/api/v1/organizations", &[KEY], &body)
        .await;
    assert_eq!(answer.problem(422), "idempotency_mismatch");
    let writer = format!("Bearer {}", app.token("write").await);
    let headers = [KEY, ("authorization", writer.as_str())];
    let answer = app.call_with("POST", "/api/v1/keys", &headers, &body).await;
    assert_ne!(
        answer.expect(201)["id"],
        first["id"],
        "another token's key is another"
    );
}

#[tokio::test]
async fn what_was_refused_may_be_tried_again() {
    let app = App::start().await;
    let body = json!({ "subscription_id": "later", "name": "k" });
    let answer = app.call_with("POST", "/api/v1/keys", &[KEY], &body).await;
    assert_eq!(answer.problem(404), "subscription_not_found");
    let made =
        json!({ "id": "later", "organization": "acme", "apis": ["widgets"], "plan": "free" });
    app.call("POST", "/api/v1/subscriptions", made)
        .await
        .expect(201);
    app.call_with("POST", "/api/v1/keys", &[KEY], &body)
        .await
        .expect(201);
}

#[tokio::test]
async fn a_day_later_the_key_is_free() {
    let app = App::start().await;
    let body = json!({ "subscription_id": "acme-widgets", "name": "k" });
    let first = app
        .call_with("POST", "/api/v1/keys", &[KEY], &body)
        .await
        .expect(201);
    app.clock.advance_s(24 * 3_600 + 1);
    let later = app
        .call_with("POST", "/api/v1/keys", &[KEY], &body)
        .await
        .expect(201);
    assert_ne!(first["id"], later["id"]);
}

#[tokio::test]
async fn a_repeat_while_the_first_runs_is_refused() {
    let app = App::start().await;
    let gate = Arc::new(Gate::default());
    *app.flush.gate.lock().unwrap() = Some(gate.clone());
    let first = app.call_with("POST", "/api/v1/usage/flush", &[KEY], "");
    let second = async {
        gate.begun.notified().await;
        let answer = app
            .call_with("POST", "/api/v1/usage/flush", &[KEY], "")
            .await;
        gate.open.notify_one();
        answer
    };
    let (first, second) = tokio::join!(first, second);
    first.expect(200);
    assert_eq!(second.problem(409), "idempotency_in_flight");
}

#[tokio::test]
async fn keys_have_a_form() {
    let app = App::start().await;
    let long = "x".repeat(256);
    for bad in ["", "two words", long.as_str()] {
        let headers = [("idempotency-key", bad)];
        let answer = app
            .call_with("POST", "/api/v1/usage/flush", &headers, "")
            .await;
        assert_eq!(answer.faults(), faults(&[("Idempotency-Key", "invalid")]));
    }
}
