//! What a stranger does first, step by step, through the real binary: call without a key, make a
//! key, call with it, be refused, see the usage, change plan, revoke. After every journey the
//! upstream's own count equals what was recorded, and the ledger reconciles.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tollgate_testkit::client::{self, Call, Reply};
use tollgate_testkit::{Binary, Oracle, Setup};

const CATALOG: &str = r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
anonymous_plan = "demo"
[[api.route]]
path = "/v1/widgets/{id}"
methods = ["GET"]
[[api.route]]
path = "/v1/secret"
scope = "secret:read"
[[api.route]]
path = "/v1/open"
open = true

[[plan]]
id = "demo"
name = "Demo"
limits = [{ max = 20, per = "minute" }]
[[plan]]
id = "minutely"
name = "Minutely"
limits = [{ max = 5, per = "minute" }]
[[plan]]
id = "secondly"
name = "Secondly"
limits = [{ max = 3, per = "second" }]
[[plan]]
id = "monthly"
name = "Monthly"
quota = { units = 4, every = "month", on_exceeded = "block" }
[[plan]]
id = "large"
name = "Large"
scopes = ["widgets:read"]
quota = { units = 70000, every = "month", on_exceeded = "block" }

[[organization]]
id = "acme"
name = "Acme"
[[subscription]]
id = "acme-minutely"
organization = "acme"
apis = ["widgets"]
plan = "minutely"
[[subscription]]
id = "acme-secondly"
organization = "acme"
apis = ["widgets"]
plan = "secondly"
[[subscription]]
id = "acme-monthly"
organization = "acme"
apis = ["widgets"]
plan = "monthly"
[[subscription]]
id = "acme-large"
organization = "acme"
apis = ["widgets"]
plan = "large"
"#;

async fn start() -> anyhow::Result<(Oracle, Binary)> {
    let oracle = Oracle::start()?;
    let catalog = CATALOG.replace("{upstream}", &oracle.url());
    let binary = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog)
        .start()
        .await?;
    Ok((oracle, binary))
}

/// What every journey ends with.
async fn agree(oracle: &Oracle, binary: &Binary) -> anyhow::Result<()> {
    let records = binary.records("outcome=forwarded&range=24h").await?;
    let mut recorded: Vec<&str> = records
        .iter()
        .filter_map(|record| record.get("id").and_then(Value::as_str))
        .collect();
    let mut seen = oracle.request_ids();
    recorded.sort_unstable();
    seen.sort_unstable();
    ensure!(
        recorded == seen,
        "upstream saw {seen:?}, recorded {recorded:?}"
    );
    binary.reconcile().map(drop)
}

fn code_of(reply: &Reply) -> (u16, String) {
    (reply.status, reply.code())
}

#[tokio::test]
async fn a_call_without_a_key_is_served_by_the_demo_plan() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let reply = client::send(binary.gateway(), &Call::get("/v1/widgets/7")).await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-demo-mode"), Some("true"));
    assert_eq!(reply.header("x-user-id"), Some("anonymous"));
    assert_eq!(reply.number("x-ratelimit-limit"), Some(20));
    assert_eq!(reply.number("x-ratelimit-remaining"), Some(19));
    let scoped = client::send(binary.gateway(), &Call::get("/v1/secret")).await?;
    assert_eq!(code_of(&scoped), (401, "key_missing".to_owned()));
    assert_eq!(scoped.header("www-authenticate"), Some("Bearer"));
    agree(&oracle, &binary).await
}

#[tokio::test]
async fn a_new_key_works_at_once_and_every_header_is_there() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let (id, key) = binary.create_key("acme-minutely").await?;
    assert!(id.starts_with("key_"), "{id}");
    let random = key.strip_prefix("hm_").context("hm_ begins the key")?;
    assert_eq!(random.len(), 32);
    assert!(random.bytes().all(|b| b.is_ascii_alphanumeric()));

    let reply = binary.call(&key, "/v1/widgets/7?x=%20y").await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-user-id"), Some("acme-minutely"));
    assert_eq!(reply.header("x-demo-mode"), None);
    assert_eq!(reply.number("x-ratelimit-limit"), Some(5));
    assert_eq!(reply.number("x-ratelimit-used"), Some(1));
    assert_eq!(reply.number("x-ratelimit-remaining"), Some(4));
    let reset = reply.header("x-ratelimit-reset").context("reset")?;
    assert!(reset.ends_with('Z') && reset.len() == 20, "{reset}");
    let policy = reply.header("ratelimit-policy").context("policy")?;
    assert_eq!(policy, "\"minute-subscription\";q=5;w=60");
    let limit = reply.header("ratelimit").context("ratelimit")?;
    assert!(
        limit.starts_with("\"minute-subscription\";r=4;t="),
        "{limit}"
    );
    let took = reply.header("x-response-time").context("time")?;
    assert!(took.parse::<f64>().is_ok(), "{took}");

    let request_id = reply.header("x-request-id").context("request id")?;
    assert!(request_id.starts_with("req_") && request_id.len() == 30);
    let seen = oracle.last()?;
    assert_eq!(seen.request_id.as_deref(), Some(request_id));
    assert_eq!(seen.path, "/v1/widgets/7?x=%20y");
    assert_eq!(
        seen.header("x-tollgate-subscription"),
        Some("acme-minutely")
    );
    assert_eq!(seen.header("x-tollgate-organization"), Some("acme"));
    assert_eq!(seen.header("x-tollgate-key-id"), Some(id.as_str()));
    assert!(seen.header("x-forwarded-for").is_some());
    assert!(seen.header("traceparent").is_some());
    let told = format!("{:?}", seen.headers);
    assert!(!told.contains(&key), "the upstream was sent the key");
    agree(&oracle, &binary).await
}

#[tokio::test]
async fn identity_headers_from_outside_never_reach_the_upstream() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let (_, key) = binary.create_key("acme-large").await?;
    let call = Call::get("/v1/widgets/7")
        .header("Authorization", &format!("Bearer {key}"))
        .header("x-tollgate-subscription", "somebody-else")
        .header("X_Tollgate_Organization", "somebody-else")
        .header("X-Request-Id", "mine-1");
    let reply = client::send(binary.gateway(), &call).await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let seen = oracle.last()?;
    let told = format!("{:?}", seen.headers);
    assert!(!told.contains("somebody-else"), "{told}");
    assert!(!told.contains(&key), "{told}");
    assert_eq!(seen.header("x-client-request-id"), Some("mine-1"));
    assert_ne!(seen.request_id.as_deref(), Some("mine-1"));
    agree(&oracle, &binary).await
}

#[tokio::test]
async fn wrong_keys_and_wrong_paths_are_refused_with_their_code() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let wrong = "hm_00000000000000000000000000000000";
    let reply = binary.call(wrong, "/v1/widgets/7").await?;
    assert_eq!(code_of(&reply), (401, "key_invalid".to_owned()));
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    let body = reply.json()?;
    for field in ["type", "title", "status", "detail", "code", "request_id"] {
        assert!(body.get(field).is_some(), "{field} is missing: {body}");
    }
    let (_, key) = binary.create_key("acme-large").await?;
    let elsewhere = binary.call(&key, "/v2/widgets").await?;
    assert_eq!(code_of(&elsewhere), (404, "api_not_found".to_owned()));
    let method = Call::new(http::Method::DELETE, "/v1/widgets/7").key(&key);
    let method = client::send(binary.gateway(), &method).await?;
    assert_eq!(code_of(&method), (405, "method_not_allowed".to_owned()));
    assert!(method.header("allow").context("Allow")?.contains("GET"));
    let scope = binary.call(&key, "/v1/secret").await?;
    assert_eq!(code_of(&scope), (403, "scope_missing".to_owned()));
    assert_eq!(oracle.count(), 0);
    agree(&oracle, &binary).await
}

#[tokio::test]
async fn one_call_over_the_limit_is_refused_and_told_the_truth() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let (_, key) = binary.create_key("acme-secondly").await?;
    // A window of a second may end while a slow machine still counts: then it begins anew.
    let mut refused = None;
    for _ in 0..20 {
        let reply = binary.call(&key, "/v1/widgets/7").await?;
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
        assert_eq!(reply.status, 200);
    }
    let refused = refused.context("20 calls within a second or so were all admitted")?;
    assert_eq!(refused.code(), "rate_limited");
    assert_eq!(refused.number("x-ratelimit-limit"), Some(3));
    assert_eq!(refused.number("x-ratelimit-remaining"), Some(0));
    let body = refused.json()?;
    for field in [
        "limit",
        "used",
        "remaining",
        "scope",
        "window",
        "retry_after",
        "reset_at",
    ] {
        assert!(body.get(field).is_some(), "{field} is missing: {body}");
    }
    let seconds = refused.number("retry-after").context("Retry-After")?;
    assert!((1..=2).contains(&seconds), "{seconds}");
    // The promise itself is what is waited for here.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let again = binary.call(&key, "/v1/widgets/7").await?;
    assert_eq!(
        again.status,
        200,
        "asked again after Retry-After: {}",
        again.text()
    );
    agree(&oracle, &binary).await
}

#[tokio::test]
async fn limits_of_a_minute_refuse_call_number_limit_plus_one() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let (_, key) = binary.create_key("acme-minutely").await?;
    let (_, second) = binary.create_key("acme-minutely").await?;
    for number in 0..5 {
        // Keys of one subscription share its limit.
        let key = if number % 2 == 0 { &key } else { &second };
        let reply = binary.call(key, "/v1/widgets/7").await?;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.number("x-ratelimit-remaining"), Some(4 - number));
    }
    let refused = binary.call(&second, "/v1/widgets/7").await?;
    assert_eq!(code_of(&refused), (429, "rate_limited".to_owned()));
    let seconds = refused.number("retry-after").context("Retry-After")?;
    assert!((1..=61).contains(&seconds), "{seconds}");
    assert_eq!(oracle.count(), 5);
    agree(&oracle, &binary).await
}

#[tokio::test]
async fn a_quota_ends_with_its_last_unit_and_other_plans_show_other_limits() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let (_, key) = binary.create_key("acme-monthly").await?;
    for left in (0..4).rev() {
        let reply = binary.call(&key, "/v1/widgets/7").await?;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.number("x-ratelimit-remaining"), Some(left));
    }
    let refused = binary.call(&key, "/v1/widgets/7").await?;
    assert_eq!(code_of(&refused), (429, "quota_exceeded".to_owned()));
    assert!(
        refused.json()?.get("period").is_some(),
        "{}",
        refused.text()
    );
    let open = binary.call(&key, "/v1/open").await?;
    assert_eq!(open.status, 200, "open routes charge nothing");

    let (_, large) = binary.create_key("acme-large").await?;
    let reply = binary.call(&large, "/v1/widgets/7").await?;
    assert_eq!(reply.number("x-ratelimit-limit"), Some(70_000));
    assert_eq!(reply.number("x-ratelimit-remaining"), Some(69_999));
    assert_eq!(binary.quota_used("acme-monthly").await?, 4);
    assert_eq!(binary.quota_used("acme-large").await?, 1);
    agree(&oracle, &binary).await
}

#[tokio::test]
async fn answers_that_are_not_charged_give_the_quota_back() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let (_, key) = binary.create_key("acme-large").await?;
    for (path, charged) in [
        ("/v1/widgets/7?status=404", 1),
        ("/v1/widgets/7?status=503", 1),
        ("/v1/widgets/7?status=204", 2),
        ("/v1/widgets/7?status=302", 3),
    ] {
        binary.call(&key, path).await?;
        assert_eq!(binary.quota_used("acme-large").await?, charged, "{path}");
    }
    agree(&oracle, &binary).await
}

#[tokio::test]
async fn usage_of_the_last_seven_days_adds_up() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let (_, key) = binary.create_key("acme-minutely").await?;
    for _ in 0..7 {
        binary.call(&key, "/v1/widgets/7").await?;
    }
    binary.flush().await?;
    let query = "every=day&days=7&subscription_id=acme-minutely";
    let trends = binary.get(&format!("/api/v1/usage/trends?{query}")).await?;
    let points = trends.get("points").and_then(Value::as_array);
    let points = points.context("points")?;
    assert!((7..=8).contains(&points.len()), "{} points", points.len());
    let sum = |field: &str| -> u64 {
        let values = points.iter().filter_map(|point| point.get(field)?.as_u64());
        values.sum()
    };
    assert_eq!((sum("requests"), sum("units"), sum("denied")), (7, 5, 2));

    let path = "/api/v1/usage/stats?range=24h&subscription_id=acme-minutely";
    let stats = binary.get(path).await?;
    assert_eq!(stats.get("requests"), Some(&json!(7)));
    assert_eq!(stats.get("denied"), Some(&json!(2)));
    assert_eq!(stats.pointer("/by_status/429"), Some(&json!(2)));
    agree(&oracle, &binary).await
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_a_disabled_one_can_come_back() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let (id, key) = binary.create_key("acme-large").await?;
    let disable = |state: &str| {
        let body = json!({ "state": state }).to_string();
        Call::new(http::Method::PATCH, format!("/api/v1/keys/{id}"))
            .header("Content-Type", "application/json")
            .body(body)
    };
    assert_eq!(binary.call(&key, "/v1/widgets/7").await?.status, 200);
    let patched = binary.ask(disable("disabled")).await?;
    assert_eq!(patched.status, 200, "{}", patched.text());
    let refused = binary.call(&key, "/v1/widgets/7").await?;
    assert_eq!(code_of(&refused), (403, "key_disabled".to_owned()));
    binary.ask(disable("active")).await?;
    assert_eq!(binary.call(&key, "/v1/widgets/7").await?.status, 200);
    // The 204 is the promise that this process already decides by it.
    binary.revoke(&id).await?;
    let refused = binary.call(&key, "/v1/widgets/7").await?;
    assert_eq!(code_of(&refused), (401, "key_revoked".to_owned()));
    let shown = binary.get(&format!("/api/v1/keys/{id}")).await?;
    assert_eq!(shown.get("state"), Some(&json!("revoked")));
    assert!(shown.get("key").is_none(), "{shown}");
    agree(&oracle, &binary).await
}

#[tokio::test]
async fn the_quota_can_be_asked_for_without_consuming_it() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let (_, key) = binary.create_key("acme-monthly").await?;
    binary.call(&key, "/v1/widgets/7").await?;
    for _ in 0..3 {
        let check = Call::get("/api/v1/quota/check").header("X-Subscription-Key", &key);
        let check = client::send(binary.platform(), &check).await?;
        assert_eq!(check.status, 200, "{}", check.text());
        let check = check.json()?;
        assert_eq!(check.get("allowed"), Some(&json!(true)));
        assert_eq!(check.get("remaining"), Some(&json!(3)));
    }
    let me = binary.call(&key, "/.well-known/tollgate/me").await?;
    assert_eq!(me.status, 200, "{}", me.text());
    let same = Call::get("/api/v1/me").header("X-API-Key", &key);
    let same = client::send(binary.platform(), &same).await?;
    assert_eq!(same.status, 200, "{}", same.text());
    assert_eq!(me.json()?, same.json()?, "one shape at both ends");
    assert_eq!(binary.quota_used("acme-monthly").await?, 1);
    agree(&oracle, &binary).await
}
