//! Questions about usage.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tollgate_metering::Ingest;
use tollgate_model::{
    Clock, DenialCode, EventId, KeyId, Outcome, RequestId, Sequence, Timestamp, UsageEvent,
};
use tollgate_store::testing::{event, stream};
use tollgate_store::{IngestedEvent, UsageStore as _};

use crate::app::{App, faults};

/// Ten calls in the ten minutes before now, one of them refused and one failed.
async fn with_traffic() -> App {
    let app = App::start().await;
    let now = app.clock.now().wall;
    let events: Vec<IngestedEvent> = (0..10).map(|n| call(n, now)).collect();
    let ingest = Ingest::new(app.clock.clone());
    let batch = ingest.prepare(stream(0), Sequence(0), Sequence(10), events);
    app.store.ingest(batch).await.unwrap();
    app
}

fn call(n: u32, now: Timestamp) -> IngestedEvent {
    let mut event = UsageEvent {
        id: EventId::Request(RequestId::from_uuid(u128::from(n) + 1)),
        at: now.plus_us(-60_000_000 * i64::from(10 - n)),
        key: Some(KeyId::new("key_a")),
        key_family: Some(KeyId::new("key_a")),
        latency_us: 10_500,
        subscription_period: Timestamp::parse("2026-11-01T00:00:00Z").ok(),
        country: Some(*b"DE"),
        address: "192.0.2.7".parse().ok(),
        ..event(n)
    };
    if n == 3 {
        event.status = 429;
        event.outcome = Outcome::Denied;
        event.code = Some(DenialCode::RateLimited);
        event.limit = Some(Arc::from("minute-subscription"));
        event.units = 0;
    }
    if n == 4 {
        event.status = 500;
        event.route = Arc::from("/v1/search");
        event.units = 0;
    }
    IngestedEvent {
        sequence: Sequence(u64::from(n)),
        event,
    }
}

#[tokio::test]
async fn stats_tell_what_happened_and_where_the_quota_stands() {
    let app = with_traffic().await;
    app.gateway.used.store(8, Ordering::Relaxed);
    let paths = [
        "/api/v1/usage/stats?subscription_id=acme-widgets",
        "/api/v1/usage/stats?userId=acme&range=24h",
        "/api/v1/usage/stats?subscriptionId=acme-widgets&tier=free&days=1",
    ];
    for path in paths {
        let stats = app.get(path).await.expect(200);
        assert_eq!(stats["requests"], 10, "{path}");
        assert_eq!(stats["denied"], 1);
        assert_eq!(stats["errors"], 1);
        assert_eq!(stats["quota"]["remaining"], 992);
    }
    let stats = app.get(paths[0]).await.expect(200);
    insta::assert_json_snapshot!("stats", stats);
    let stats = app
        .get("/api/v1/usage/stats?endpoint=/v1/search")
        .await
        .expect(200);
    assert_eq!(stats["requests"], 1);
    assert_eq!(stats["quota"], Value::Null);
    let stats = app
        .get("/api/v1/usage/stats?apiKeyId=key_a")
        .await
        .expect(200);
    assert_eq!(stats["requests"], 10);
}

#[tokio::test]
async fn trends_have_a_point_for_every_start_and_group() {
    let app = with_traffic().await;
    let trends = app
        .get("/api/v1/usage/trends?days=7&every=day&time_zone=Europe/Berlin")
        .await
        .expect(200);
    let points = trends["points"].as_array().unwrap();
    assert_eq!(points.len(), 8, "the last seven days and today");
    assert_eq!(points[7]["requests"], 10);
    assert_eq!(points[7]["start"], "2026-11-22T23:00:00.000000Z");
    assert_eq!(points[0]["requests"], 0);
    let grouped = app
        .get("/api/v1/usage/trends?range=24h&every=day&groupBy=status")
        .await
        .expect(200);
    let groups: Vec<&Value> = grouped["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| &point["group"])
        .collect();
    assert!(groups.contains(&&json!("200")) && groups.contains(&&json!("429")));
}

#[tokio::test]
async fn the_summary_puts_two_spans_side_by_side() {
    let app = with_traffic().await;
    app.gateway.used.store(900, Ordering::Relaxed);
    let summary = app.get("/api/v1/usage/summary?range=1h").await.expect(200);
    assert_eq!(summary["now"]["requests"], 10);
    assert_eq!(summary["before"]["requests"], 0);
    assert_eq!(summary["top_routes"][0]["name"], "/v1/widgets/{id}");
    assert_eq!(summary["top_organizations"][0]["name"], "acme");
    let near = summary["near_limit"].as_array().unwrap();
    assert_eq!(near.len(), 1);
    assert_eq!(near[0]["subscription_id"], "acme-widgets");
    assert_eq!(near[0]["percentage"], 90.0);
}

#[tokio::test]
async fn rankings_are_by_what_was_asked() {
    let app = with_traffic().await;
    for (by, name) in [
        ("route", "/v1/widgets/{id}"),
        ("key", "key_a"),
        ("organization", "acme"),
        ("address", "192.0.2.7"),
        ("country", "DE"),
    ] {
        let path = format!("/api/v1/usage/top?by={by}&limit=1");
        let top = app.get(&path).await.expect(200);
        assert_eq!(top["items"].as_array().unwrap().len(), 1);
        assert_eq!(top["items"][0]["name"], name);
    }
}

#[tokio::test]
async fn records_are_found_by_their_conditions_and_paged() {
    let app = with_traffic().await;
    let found = app
        .get("/api/v1/usage/records?status=429")
        .await
        .expect(200);
    assert_eq!(found["next_cursor"], Value::Null);
    insta::assert_json_snapshot!("record", found["items"][0]);
    let id = found["items"][0]["request_id"].as_str().unwrap();
    let by_id = app
        .get(&format!("/api/v1/usage/records?request_id={id}"))
        .await;
    assert_eq!(by_id.expect(200), found);
    for (query, count) in [
        ("outcome=denied", 1),
        ("minLatencyMs=10", 10),
        ("minLatencyMs=11", 0),
        ("address=192.0.2.7", 10),
        ("address=192.0.2.8", 0),
        ("test=true", 0),
        ("to=2026-11-23T14:28:00Z", 1),
    ] {
        let found = app
            .get(&format!("/api/v1/usage/records?{query}"))
            .await
            .expect(200);
        assert_eq!(found["items"].as_array().unwrap().len(), count, "{query}");
    }
    let mut times = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = app
            .get(&format!("/api/v1/usage/records?limit=3{cursor}"))
            .await
            .expect(200);
        let items = page["items"].as_array().unwrap();
        times.extend(
            items
                .iter()
                .map(|item| item["timestamp"].clone().to_string()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut sorted = times.clone();
    sorted.sort();
    sorted.reverse();
    assert_eq!(times.len(), 10);
    assert_eq!(times, sorted);
}

#[tokio::test]
async fn bad_questions_name_every_parameter() {
    let app = App::start().await;
    let answer = app
        .get("/api/v1/usage/records?from=x&status=7&outcome=lost&address=here&limit=0&test=2&min_latency_ms=-1")
        .await;
    let expected = [
        ("address", "invalid"),
        ("from", "invalid"),
        ("limit", "out_of_range"),
        ("min_latency_ms", "wrong_type"),
        ("outcome", "invalid"),
        ("status", "out_of_range"),
        ("test", "invalid"),
    ];
    assert_eq!(answer.faults(), faults(&expected));
    let answer = app
        .get("/api/v1/usage/trends?range=2h&every=year&group_by=label:&time_zone=Mars")
        .await;
    let expected = [
        ("every", "invalid"),
        ("group_by", "invalid"),
        ("range", "invalid"),
        ("time_zone", "invalid"),
    ];
    assert_eq!(answer.faults(), faults(&expected));
    let answer = app.get("/api/v1/usage/stats?userId=nobody").await;
    assert_eq!(answer.problem(404), "subscription_not_found");
    let answer = app
        .get("/api/v1/usage/stats?from=2026-11-23T00:00:00Z&to=2026-11-22T00:00:00Z")
        .await;
    assert_eq!(answer.faults(), faults(&[("from", "invalid")]));
    let answer = app.get("/api/v1/usage/trends?days=3000&every=minute").await;
    assert_eq!(answer.faults(), faults(&[("every", "invalid")]));
    let answer = app.get("/api/v1/usage/records?cursor=nonsense").await;
    assert_eq!(answer.problem(400), "request_invalid");
}

#[tokio::test]
async fn keys_and_subscriptions_show_what_they_used() {
    let app = with_traffic().await;
    let shown = app
        .get("/api/v1/subscriptions/acme-widgets")
        .await
        .expect(200);
    assert_eq!(
        shown["usage"],
        json!({ "today": 8, "period": 8, "total": 8 })
    );
}

/// Zeros would be an answer about somebody who is there.
#[tokio::test]
async fn questions_about_a_name_that_nobody_has_are_not_answered_with_zeros() {
    let app = App::start().await;
    for question in ["stats", "top", "trends", "summary", "records"] {
        for (filter, code) in [
            ("subscription_id=nobody", "subscription_not_found"),
            ("organization_id=nobody", "not_found"),
            ("api=nothing", "not_found"),
            ("plan=nothing", "not_found"),
            ("key_id=key_nothing", "not_found"),
        ] {
            let path = format!("/api/v1/usage/{question}?{filter}");
            assert_eq!(app.get(&path).await.problem(404), code, "{path}");
        }
        let known = "subscription_id=acme-widgets&organization_id=acme&api=widgets&plan=free";
        let path = format!("/api/v1/usage/{question}?{known}");
        app.get(&path).await.expect(200);
    }
    let answer = app.get("/api/v1/keys?subscription_id=nobody").await;
    assert_eq!(answer.problem(404), "subscription_not_found");
    app.get("/api/v1/keys?subscription_id=zoo-one")
        .await
        .expect(200);
}
