//! `Idempotency-Key`.

use std::sync::Arc;

use serde_json::{Value, json};
use tollgate_api::Options;

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

fn plan() -> Value {
    json!({ "id": "gold", "name": "Gold" })
}

#[tokio::test]
async fn after_a_restart_the_answer_is_given_again_and_other_bodies_are_refused() {
    let app = App::start().await;
    let first = app.call_with("POST", "/api/v1/plans", &[KEY], plan()).await;
    let app = app.restarted().await;
    let again = app.call_with("POST", "/api/v1/plans", &[KEY], plan()).await;
    assert_eq!(first.expect(201), again.expect(201));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.header("content-type"), first.header("content-type"));
    let other = json!({ "id": "silver", "name": "Silver" });
    let answer = app.call_with("POST", "/api/v1/plans", &[KEY], other).await;
    assert_eq!(answer.problem(422), "idempotency_mismatch");
    app.clock.advance_s(24 * 3_600 + 1);
    let later = app.call_with("POST", "/api/v1/plans", &[KEY], plan()).await;
    assert_eq!(later.problem(409), "already_exists", "the key is free");
}

/// A secret is shown once: a repeat after a restart names the key that was made and makes no other.
#[tokio::test]
async fn a_secret_is_not_kept_and_its_key_not_made_twice() {
    let app = App::start().await;
    let body = json!({ "subscription_id": "acme-widgets", "name": "k" });
    let made = app.call_with("POST", "/api/v1/keys", &[KEY], &body).await;
    let made = made.expect(201);
    let app = app.restarted().await;
    let again = app.call_with("POST", "/api/v1/keys", &[KEY], &body).await;
    assert_eq!(again.problem(409), "idempotency_answer_lost");
    let id = made["id"].as_str().unwrap();
    assert!(
        again.text.contains(&format!("key.create {id}")),
        "{}",
        again.text
    );
    let list = app.get("/api/v1/keys").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let kept = format!("{:?}", app.store);
    let secret = made["key"].as_str().unwrap();
    let bytes = format!("{:?}", secret.as_bytes());
    let bytes = bytes.trim_matches(['[', ']']);
    assert!(!kept.contains(secret) && !kept.contains(bytes));
    assert!(
        !kept.contains(KEY.1),
        "the idempotency key may be a secret too"
    );
}

/// Killed after the act and before the answer, or before the act: what the store then holds.
#[tokio::test]
async fn a_call_that_was_killed_is_done_once() {
    let app = App::start().await;
    let gate = Arc::new(Gate::default());
    *app.flush.gate.lock().unwrap() = Some(gate.clone());
    let killed = app.call_with("POST", "/api/v1/usage/flush", &[KEY], "");
    let elsewhere = async {
        gate.begun.notified().await;
        let app = app.restarted().await;
        let done = app
            .call_with("POST", "/api/v1/usage/flush", &[KEY], "")
            .await;
        gate.open.notify_one();
        done
    };
    let (killed, done) = tokio::join!(killed, elsewhere);
    done.expect(200);
    killed.expect(200);
    let app = app.restarted().await;
    let again = app
        .call_with("POST", "/api/v1/usage/flush", &[KEY], "")
        .await;
    assert_eq!(again.header("idempotency-replayed"), "true");
}

/// Fifty callers with one key, in two processes over one store, and a restart after each ten.
#[tokio::test]
async fn of_fifty_racing_calls_one_has_an_effect() {
    let mut app = App::start().await;
    let body = json!({ "subscription_id": "acme-widgets", "name": "k" });
    let mut made = 0;
    for _ in 0..5 {
        let other = app.restarted().await;
        let calls = (0..10).map(|n| {
            let app = if n % 2 == 0 { &app } else { &other };
            app.call_with("POST", "/api/v1/keys", &[KEY], &body)
        });
        for answer in futures_util::future::join_all(calls).await {
            match answer.status.as_u16() {
                201 if !answer.headers.contains_key("idempotency-replayed") => made += 1,
                201 => {}
                _ => assert!(answer.problem(409).starts_with("idempotency_")),
            }
        }
        app = other;
    }
    assert_eq!(made, 1);
    let list = app.get("/api/v1/keys").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn when_no_more_calls_can_be_remembered_keys_are_refused_and_plain_calls_pass() {
    let options = Options {
        calls_max: 1,
        ..Options::default()
    };
    let app = App::with_options(options).await;
    let path = "/api/v1/usage/flush";
    app.call_with("POST", path, &[KEY], "").await.expect(200);
    let other = [("idempotency-key", "order-8")];
    let full = app.call_with("POST", path, &other, "").await;
    assert_eq!(full.problem(503), "unavailable");
    app.call_with("POST", path, &[], "").await.expect(200);
    app.call_with("POST", path, &[KEY], "").await.expect(200);
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
