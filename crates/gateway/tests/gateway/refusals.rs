//! Who is refused, how they are told, and that it costs them nothing.

use tollgate_model::{KeyState, Outcome, SubscriptionState, Unlisted};

use crate::world::{KEY, Wish, World, per_minute, route};

#[test]
fn every_refusal_has_its_status_and_code_and_reaches_no_upstream() {
    let world = World::with_api(|api| {
        let mut scoped = route("/v1/scoped", &["GET"]);
        scoped.scope = Some("read".into());
        api.routes = vec![route("/v1/get", &["GET"]), scoped];
        api.unlisted = Unlisted::Refuse;
        api.body_bytes_max = Some(10);
    });
    let key = [("x-api-key", KEY)];
    type Case<'a> = (
        &'a str,
        &'a str,
        &'a [(&'a str, &'a str)],
        &'a [u8],
        u16,
        &'a str,
    );
    let cases: [Case<'_>; 7] = [
        ("GET", "/other", &key, b"", 404, "api_not_found"),
        ("GET", "/v1/none", &key, b"", 404, "route_not_found"),
        ("POST", "/v1/get", &key, b"", 405, "method_not_allowed"),
        ("TRACE", "/v1/get", &key, b"", 405, "method_not_allowed"),
        ("GET", "/v1/get", &[], b"", 401, "key_missing"),
        (
            "GET",
            "/v1/get",
            &[("x-api-key", "no")],
            b"",
            401,
            "key_invalid",
        ),
        (
            "GET",
            "/v1/get",
            &key,
            b"12345678901",
            413,
            "body_too_large",
        ),
    ];
    for (method, path, headers, body, status, code) in cases {
        let answer = world.client().ask(method, path, headers, body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
        let id = answer.header("x-request-id").unwrap().to_owned();
        assert_eq!(answer.json()["request_id"], id);
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        if status == 405 && method == "POST" {
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        }
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert_eq!(answer.header("x-ratelimit-limit"), None);
        }
    }
    assert!(world.upstream.seen().is_empty());
    assert_eq!(world.used(), 0);
}

#[test]
fn changes_of_a_key_hold_for_the_next_request() {
    let world = World::new();
    let mut client = world.client();
    assert_eq!(client.get("/v1/x", &[("x-api-key", KEY)]).status, 200);
    let now = world.now();
    let mut asks = |version, change: &dyn Fn(&mut tollgate_model::ApiKey)| {
        world.change_key(version, change);
        client.get("/v1/x", &[("x-api-key", KEY)])
    };
    let disabled = asks(2, &|k| k.state = KeyState::Disabled);
    assert_eq!(
        (disabled.status, disabled.code().as_str()),
        (403, "key_disabled")
    );
    assert_eq!(disabled.header("x-ratelimit-used"), Some("1"));
    assert_eq!(asks(3, &|_| {}).status, 200);
    assert_eq!(asks(4, &|k| k.expires_at = Some(now)).code(), "key_expired");
    let fenced = asks(5, &|k| {
        k.allowed_addresses = vec!["10.0.0.0/8".parse().unwrap()]
    });
    assert_eq!(fenced.code(), "address_not_allowed");
    assert_eq!(
        asks(6, &|k| k.state = KeyState::Revoked).code(),
        "key_revoked"
    );
    // A late change does not bring it back.
    assert_eq!(asks(5, &|_| {}).code(), "key_revoked");
}

#[test]
fn a_subscriptions_state_is_obeyed() {
    for (state, status, code) in [
        (SubscriptionState::Suspended, 402, "subscription_suspended"),
        (SubscriptionState::Cancelled, 403, "subscription_cancelled"),
    ] {
        let mut world = World::new();
        let subscriptions = &mut world.catalog.subscriptions;
        let subscription = subscriptions.values_mut().next().unwrap();
        std::sync::Arc::make_mut(subscription).state = state;
        world.catalog.version = 2;
        use tollgate_model::CatalogSink;
        let catalog = std::sync::Arc::new(world.catalog.clone());
        world.handle.publish_catalog(catalog);
        let answer = world.call("/v1/x");
        assert_eq!((answer.status, answer.code().as_str()), (status, code));
        assert_eq!(answer.header("x-user-id"), Some("acme-widgets"));
    }
}

#[test]
fn exactly_the_limit_is_admitted_by_many_clients_at_once() {
    let world = World::with(Wish {
        catalog: Some(|catalog| {
            let plan = catalog.plans.values_mut().next().unwrap();
            std::sync::Arc::make_mut(plan).limits = vec![per_minute(40)];
        }),
        ..Wish::default()
    });
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let one = || {
            let mut client = world.client();
            (0..10)
                .map(|_| client.get("/v1/x", &[("x-api-key", KEY)]).status)
                .collect::<Vec<_>>()
        };
        let clients: Vec<_> = (0..12).map(|_| scope.spawn(one)).collect();
        clients
            .into_iter()
            .flat_map(|c| c.join().unwrap())
            .collect()
    });
    let of = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((of(200), of(429)), (40, 80));
    assert_eq!(world.upstream.seen().len(), 40);
    let events = world.wait_for_events(120);
    let denied = events.iter().filter(|e| e.outcome == Outcome::Denied);
    assert_eq!(denied.count(), 80);
    assert_eq!(events.iter().map(|e| e.units).sum::<u64>(), 40);
    assert_eq!(world.used(), 40);
}

#[test]
fn a_refusal_by_a_limit_tells_the_limit_and_when_it_opens() {
    let world = World::with(Wish {
        catalog: Some(|catalog| {
            let plan = catalog.plans.values_mut().next().unwrap();
            std::sync::Arc::make_mut(plan).limits = vec![per_minute(1)];
        }),
        ..Wish::default()
    });
    assert_eq!(world.call("/v1/x").status, 200);
    let answer = world.call("/v1/x");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (429, "rate_limited")
    );
    let problem = answer.json();
    for (field, value) in [("limit", 1), ("used", 1), ("remaining", 0)] {
        assert_eq!(problem[field], value, "{field}");
    }
    assert_eq!(problem["window"], "minute");
    assert_eq!(problem["scope"], "subscription");
    let retry: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((55..=62).contains(&retry), "{retry}");
    assert_eq!(problem["retry_after"], retry);
    assert_eq!(answer.header("x-ratelimit-limit"), Some("1"));
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("0"));
    let events = world.wait_for_events(2);
    let denied = events.iter().find(|e| e.status == 429).unwrap();
    assert_eq!(denied.limit.as_deref(), Some("minute-subscription"));
    assert_eq!(denied.key.as_ref().unwrap().as_str(), "key_1");
}

#[test]
fn refused_bodies_are_read_away_when_short_and_close_the_connection_when_long() {
    let world = World::new();
    let mut client = world.client();
    let answer = client.ask("POST", "/v1/x", &[], &[b'x'; 60_000]);
    assert_eq!((answer.status, answer.header("connection")), (401, None));
    assert_eq!(client.get("/v1/x", &[("x-api-key", KEY)]).status, 200);
    client.try_send("POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 500000\r\n\r\n");
    client.try_send(vec![b'x'; 200_000]);
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (401, Some("close"))
    );
    assert_eq!(world.upstream.seen().len(), 1);
}

#[test]
fn a_body_without_length_is_cut_at_the_apis_maximum() {
    let world = World::with_api(|api| api.body_bytes_max = Some(1_000));
    let mut client = world.client();
    client.send(format!(
        "POST /v1/x HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    client.try_send(format!("7d0\r\n{}\r\n", "x".repeat(2_000)));
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "body_too_large")
    );
    let event = world.the_event();
    assert_eq!((event.outcome, event.units), (Outcome::Denied, 0));
    assert!(world.upstream.seen().is_empty());
}

#[test]
fn me_tells_a_key_about_itself_and_costs_nothing() {
    let world = World::new();
    assert_eq!(world.call("/v1/x").status, 200);
    let answer = world.call("/.well-known/tollgate/me");
    assert_eq!(answer.status, 200);
    let me = answer.json();
    assert_eq!(me["subscription_id"], "acme-widgets");
    assert_eq!(me["plan"], "free");
    assert_eq!(me["limits"][0]["name"], "month-subscription");
    assert_eq!(me["limits"][0]["used"], 1);
    assert_eq!(me["limits"][1]["remaining"], 99);
    assert_eq!(
        world.client().get("/.well-known/tollgate/me", &[]).status,
        401
    );
    assert_eq!(world.call("/.well-known/tollgate/other").status, 404);
    let statuses: Vec<u16> = (0..30)
        .map(|_| world.call("/.well-known/tollgate/me").status)
        .collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(world.wait_for_events(1).len(), 1);
    assert_eq!(answer.header("x-ratelimit-limit"), Some("1000"));
    assert_eq!(answer.header("x-ratelimit-used"), Some("1"));
    assert!(answer.header("ratelimit-policy").is_some());
    assert_eq!(world.used(), 1);
}

#[test]
fn unknown_keys_are_recorded_up_to_a_rate_and_above_it_as_a_sum() {
    let world = World::new();
    let mut client = world.client();
    for _ in 0..300 {
        assert_eq!(client.get("/v1/x", &[("x-api-key", "no")]).status, 401);
    }
    let events = world.wait_until("all refusals in records", |events| {
        events.iter().map(|e| e.count).sum::<u32>() == 300
    });
    assert!(events.len() < 300, "{}", events.len());
    assert!(events.iter().all(|e| e.key.is_none() && e.status == 401));
}

#[test]
fn asking_about_oneself_too_often_tells_the_limit() {
    let world = World::new();
    let refused = (0..200)
        .map(|_| world.call("/.well-known/tollgate/me"))
        .find(|answer| answer.status == 429)
        .unwrap();
    let problem = refused.json();
    assert_eq!(problem["code"], "rate_limited");
    for (field, value) in [("limit", 10), ("used", 10), ("remaining", 0)] {
        assert_eq!(problem[field], value, "{field}");
    }
    assert_eq!(problem["scope"], "address");
    assert_eq!(problem["window"], "second");
    assert_eq!(problem["retry_after"], 1);
    assert!(problem["reset_at"].is_string());
    assert_eq!(refused.header("retry-after"), Some("1"));
}

#[test]
fn a_window_opens_at_the_same_instant_however_often_it_is_asked() {
    let world = World::new();
    world.call("/v1/x");
    let opens = || world.call("/.well-known/tollgate/me").json()["limits"][1]["reset_at"].clone();
    let first = opens();
    assert!(first.is_string());
    for _ in 0..5 {
        assert_eq!(opens(), first);
    }
}

#[test]
fn a_call_that_costs_more_than_a_limit_allows_is_told_so() {
    let world = World::with_api(|api| {
        let mut dear = crate::world::route("/v1/dear", &["GET"]);
        dear.cost = 101;
        api.routes = vec![dear];
    });
    let answer = world.call("/v1/dear");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (429, "rate_limited")
    );
    let problem = answer.json();
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("never pass") && detail.contains("100"),
        "{detail}"
    );
    assert_eq!(answer.header("retry-after"), None);
    assert!(problem.get("reset_at").is_none());
}
