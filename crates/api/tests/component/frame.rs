//! What surrounds every call.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tollgate_api::Options;

use crate::app::{App, Gate, PANIC, faults, request};

#[tokio::test]
async fn errors_have_one_shape() {
    let app = App::start().await;
    let answer = app.get("/api/v1/keys?limit=0&x=1").await;
    let mut body = answer.expect(400);
    assert_eq!(body["request_id"], answer.header("x-request-id"));
    body["request_id"] = json!("[request_id]");
    insta::assert_json_snapshot!("problem", body);
    assert_eq!(answer.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn every_answer_carries_a_request_id_and_the_security_headers() {
    let app = App::start().await;
    let mut seen = std::collections::HashSet::new();
    for path in [
        "/",
        "/docs",
        "/openapi.json",
        "/nowhere",
        "/api/v1/keys",
        "/api/v1/me",
    ] {
        let answer = app.send(request("GET", path, String::new())).await;
        let id = answer.header("x-request-id").to_owned();
        assert!(id.starts_with("req_") && id.len() == 30, "{path}: {id}");
        assert!(seen.insert(id));
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert!(
            answer
                .header("content-security-policy")
                .contains("default-src 'none'")
        );
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_problems_too() {
    let app = App::start().await;
    for path in [
        "/nowhere",
        "/api/v1/nothing",
        "/api/v1/keys/a/b",
        "/docs/errors/none",
    ] {
        assert_eq!(app.get(path).await.problem(404), "not_found", "{path}");
    }
    let answer = app.call("PUT", "/api/v1/keys", "").await;
    assert_eq!(answer.problem(405), "method_not_allowed");
    let mut allow: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
    allow.sort_unstable();
    assert_eq!(allow, ["GET", "HEAD", "POST"]);
    let answer = app.get("/api/v1/keys/%ff").await;
    assert_eq!(answer.problem(404), "not_found");
}

fn authorization() -> http::HeaderValue {
    format!("Bearer {}", crate::app::ADMIN).parse().unwrap()
}

/// Declares 101 bytes and sends none: who waits for it waits for ever.
struct NeverComes;

impl http_body::Body for NeverComes {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::task::Poll::Pending
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(101)
    }
}

#[tokio::test]
async fn bodies_are_bounded() {
    let options = Options {
        body_bytes_max: 100,
        ..Options::default()
    };
    let app = App::with_options(options).await;
    for headers in [&[][..], &[("idempotency-key", "a")]] {
        let answer = app
            .call_with("POST", "/api/v1/keys", headers, "x".repeat(101))
            .await;
        assert_eq!(answer.problem(413), "body_too_large");
    }
    let mut declared = request("POST", "/api/v1/catalog/diff", String::new());
    declared
        .headers_mut()
        .insert("authorization", authorization());
    *declared.body_mut() = axum::body::Body::new(NeverComes);
    assert_eq!(app.send(declared).await.problem(413), "body_too_large");
    let answer = app
        .call("POST", "/api/v1/catalog/diff", "#".repeat(100))
        .await;
    answer.expect(200);
    let mut not_utf8 = request("POST", "/api/v1/catalog/diff", String::new());
    not_utf8
        .headers_mut()
        .insert("authorization", authorization());
    *not_utf8.body_mut() = axum::body::Body::from(vec![0xff]);
    assert_eq!(
        app.send(not_utf8).await.faults(),
        faults(&[("", "invalid")])
    );
}

#[tokio::test]
async fn a_panic_is_a_problem_and_the_next_call_works() {
    let app = App::start().await;
    let path = format!("/api/v1/quota/check?subscription_key={PANIC}");
    let answer = app.get(&path).await;
    assert_eq!(answer.problem(500), "internal");
    assert!(!answer.text.contains("a bug"));
    let body = json!({ "key": PANIC });
    let answer = app.call("POST", "/api/v1/keys/verify", body).await;
    assert_eq!(answer.problem(500), "internal");
    app.get("/api/v1/keys").await.expect(200);
}

#[tokio::test]
async fn what_cannot_be_answered_now_says_when_to_ask_again() {
    let app = App::start().await;
    *app.flush.failure.lock().unwrap() = Some("node-b did not answer".to_owned());
    let answer = app.call("POST", "/api/v1/usage/flush", "").await;
    assert_eq!(answer.problem(503), "unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.expect(503)["detail"], "node-b did not answer");
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_answered_and_still_finished() {
    let options = Options {
        timeout_ms: 1,
        ..Options::default()
    };
    let app = App::with_options(options).await;
    let gate = Arc::new(Gate::default());
    *app.flush.gate.lock().unwrap() = Some(gate.clone());
    let answer = app.call("POST", "/api/v1/usage/flush", "").await;
    assert_eq!(answer.problem(503), "timeout");
    assert_eq!(app.flush.done.load(Ordering::Relaxed), 0);
    gate.open.notify_one();
    app.state.finish().await;
    assert_eq!(app.flush.done.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_change_is_finished_when_its_caller_leaves() {
    let app = App::start().await;
    let gate = Arc::new(Gate::default());
    *app.flush.gate.lock().unwrap() = Some(gate.clone());
    tokio::select! {
        _ = app.call("POST", "/api/v1/usage/flush", "") => panic!("answered"),
        () = gate.begun.notified() => {}
    }
    gate.open.notify_one();
    app.state.finish().await;
    assert_eq!(app.flush.done.load(Ordering::Relaxed), 1);
}

/// Where the log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_access_log_tells_each_call_once_and_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let app = App::start().await;
    let key = app.key("acme-widgets").await;
    let secret = key["key"].as_str().unwrap();
    let read = app.token("read").await;
    let bearer = format!("Bearer {read}");
    let calls = [
        format!("/api/v1/quota/check?subscription_key={secret}"),
        format!("/api/v1/quota/check?subscription%4Bey={secret}&x=1"),
        format!("/api/v1/nothing?token={read}"),
        format!("/api/v1/keys/{secret}"),
        format!("/api/v1/keys?cursor={secret}"),
    ];
    for path in &calls {
        let headers = [("authorization", bearer.as_str()), ("x-api-key", secret)];
        let answer = app.call_with("GET", path, &headers, "").await;
        assert!(answer.status.as_u16() < 500);
    }
    app.call("POST", "/api/v1/keys/verify", json!({ "key": secret }))
        .await
        .expect(200);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for hidden in [secret, read.as_str(), crate::app::ADMIN] {
        assert!(!text.contains(hidden), "{text}");
    }
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["target"] == "tollgate_api::access")
        .collect();
    assert_eq!(lines.len(), 7);
    let last = &lines[6]["fields"];
    assert_eq!(last["caller"], "bootstrap");
    assert_eq!(last["status"], 200);
    assert_eq!(last["target"], "/api/v1/keys/verify");
}
