//! What reaches the upstream, and what comes back.

use tollgate_model::EncodedSlash;

use crate::world::{KEY, Wish, World, route};

#[test]
fn a_call_is_forwarded_and_told_where_its_limits_stand() {
    let world = World::new();
    let answer = world.call("/v1/widgets?q=a%2Fb//..");
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    for (name, value) in [
        ("x-ratelimit-limit", "1000"),
        ("x-ratelimit-used", "1"),
        ("x-ratelimit-remaining", "999"),
        ("x-user-id", "acme-widgets"),
        (
            "ratelimit-policy",
            "\"minute-subscription\";q=100;w=60, \"month-subscription\";q=1000",
        ),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert!(answer.header("ratelimit").unwrap().contains(";r=99;t="));
    assert!(answer.header("x-ratelimit-reset").unwrap().ends_with('Z'));
    assert_eq!(answer.header("x-demo-mode"), None);
    let time = answer.header("x-response-time").unwrap();
    assert!(time.parse::<f64>().is_ok(), "{time}");

    let seen = &world.upstream.seen()[0];
    assert_eq!(seen.method, "GET");
    assert_eq!(seen.target, "/v1/widgets?q=a%2Fb//..");
    let id = answer.header("x-request-id").unwrap();
    for (name, value) in [
        ("x-request-id", id),
        ("x-tollgate-subscription", "acme-widgets"),
        ("x-tollgate-organization", "acme"),
        ("x-tollgate-key-id", "key_1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "api.test"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert_eq!(
        seen.header("host"),
        Some(world.upstream.address.to_string().as_str())
    );
    assert!(seen.header("traceparent").is_some());
    assert_eq!(seen.header("x-api-key"), None);
    let event = world.the_event();
    assert_eq!(event.id.as_str(), id);
    assert_eq!(&*event.path, "/v1/widgets");
}

#[test]
fn the_key_reaches_the_upstream_in_no_header() {
    let world = World::new();
    let bearer = format!("Bearer {KEY}");
    for headers in [
        &[("x-api-key", KEY)][..],
        &[("x-subscription-key", KEY)],
        &[("authorization", &bearer)],
        &[("X-API-KEY", KEY), ("x_api_key", KEY)],
        &[("x-api-key", KEY), ("authorization", &bearer)],
        &[
            ("x-api-key", KEY),
            ("authorization", "Basic abc"),
            ("authorization", &bearer),
        ],
        &[("authorization", &format!("Bearer\t{KEY}"))],
    ] {
        assert_eq!(world.client().get("/v1/x", headers).status, 200);
    }
    for seen in world.upstream.seen() {
        for (name, value) in &seen.headers {
            assert!(!value.contains(KEY), "{name}: {value}");
        }
    }
}

#[test]
fn beside_a_key_header_authorization_is_the_upstreams() {
    let world = World::new();
    let headers = [("x-api-key", KEY), ("authorization", "Bearer theirs")];
    assert_eq!(world.client().get("/v1/x", &headers).status, 200);
    let seen = &world.upstream.seen()[0];
    assert_eq!(seen.header("authorization"), Some("Bearer theirs"));
}

#[test]
fn identity_from_outside_never_reaches_the_upstream() {
    let world = World::new();
    let answer = world.client().get(
        "/v1/x",
        &[
            ("x-api-key", KEY),
            ("X-Tollgate-Subscription", "evil"),
            ("x_tollgate_key_id", "evil"),
            ("X-User-Id", "evil"),
            ("x-forwarded-for", "evil"),
            ("forwarded", "for=evil"),
            ("x-original-url", "/v1/evil"),
            ("X_Rewrite_Url", "/v1/evil"),
            (
                "connection",
                "x-tollgate-key-id, x-forwarded-for, x-request-id, x-mine",
            ),
            ("x-mine", "1"),
        ],
    );
    assert_eq!(answer.status, 200);
    let seen = &world.upstream.seen()[0];
    for (name, value) in &seen.headers {
        assert!(!value.contains("evil"), "{name}: {value}");
    }
    assert_eq!(seen.header("x-tollgate-key-id"), Some("key_1"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert!(seen.header("x-request-id").is_some());
    assert_eq!(seen.header("x-mine"), None);
}

#[test]
fn our_headers_replace_the_upstreams_and_hop_by_hop_ones_end_here() {
    let world = World::new();
    let answer = world.call("/v1/headers");
    assert_eq!(answer.header("x-ratelimit-limit"), Some("1000"));
    assert!(answer.header("x-request-id").unwrap().starts_with("req_"));
    assert_eq!(answer.header("x-user-id"), Some("acme-widgets"));
    assert!(answer.header("ratelimit").unwrap().contains("r="));
    assert_eq!(answer.header("tollgate-label-a"), None);
    assert_eq!(answer.header("x-hop"), None);
    assert_eq!(answer.header("x-own"), Some("1"));
}

#[test]
fn bodies_pass_both_ways_whole_and_are_counted() {
    let world = World::new();
    let body = vec![b'x'; 3_000_000];
    let mut client = world.client();
    let answer = client.ask("POST", "/v1/x", &[("x-api-key", KEY)], &body);
    assert_eq!(answer.status, 200);
    assert_eq!(world.upstream.seen()[0].body, body);
    let event = world.the_event();
    assert_eq!((event.bytes_in, event.bytes_out), (3_000_000, 5));
}

#[test]
fn chunked_bodies_and_trailers_pass_without_what_may_not_travel_there() {
    let world = World::new();
    let mut client = world.client();
    client.send(format!(
        "GET /v1/trailers HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\nte: trailers\r\n\
         transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         3\r\nabc\r\n0\r\nx-sum: 6\r\nx_tollgate_key_id: evil\r\n\r\n"
    ));
    let answer = client.answer();
    assert_eq!(answer.text(), "abc");
    assert!(answer.whole);
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    let seen = &world.upstream.seen()[0];
    assert_eq!(seen.body, b"abc");
    assert_eq!(seen.header("te"), Some("trailers"));
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "6".to_owned())]);
}

#[test]
fn one_connection_serves_many_requests_on_one_upstream_connection() {
    let world = World::new();
    let mut client = world.client();
    for path in ["/v1/a", "/v1/chunked", "/v1/status/204", "/v1/b"] {
        let answer = client.get(path, &[("x-api-key", KEY)]);
        assert!(answer.whole, "{path}");
    }
    assert_eq!(world.upstream.connections(), 1);
    assert_eq!(world.wait_for_events(4).len(), 4);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let world = World::new();
    let mut client = world.client();
    let one = |path| format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n");
    client.send(one("/v1/status/201") + &one("/v1/chunked") + &one("/v1/status/202"));
    let statuses = [(); 3].map(|()| client.answer().status);
    assert_eq!(statuses, [201, 200, 202]);
}

#[test]
fn a_connection_that_the_upstream_closed_meanwhile_costs_nobody_a_failure() {
    let world = World::new();
    let mut client = world.client();
    for round in 0..20 {
        let answer = client.get("/v1/close-after", &[("x-api-key", KEY)]);
        assert_eq!(answer.status, 200, "{round}");
        world.upstream.wait_for_closed(round + 1);
    }
    assert_eq!(world.used(), 20);
    assert_eq!(world.upstream.seen().len(), 20);
}

#[test]
fn head_and_bodiless_answers_end_with_their_head() {
    let world = World::new();
    let mut client = world.client();
    let answer = client.ask("HEAD", "/v1/head", &[("x-api-key", KEY)], b"");
    assert_eq!(answer.header("content-length"), Some("12345"));
    for status in ["204", "304"] {
        let answer = client.get(&format!("/v1/status/{status}"), &[("x-api-key", KEY)]);
        assert_eq!(answer.status.to_string(), status);
    }
    assert_eq!(world.wait_for_events(3).len(), 3);
}

#[test]
fn an_answer_before_the_body_reaches_a_client_that_is_still_sending() {
    let world = World::new();
    for framing in ["content-length: 5000", "transfer-encoding: chunked"] {
        let mut client = world.client();
        let answered = world.events().len() + 1;
        client.send(format!(
            "POST /v1/early HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n{framing}\r\n\r\n"
        ));
        // The gateway has let go of the exchange, and of the connection, before the body comes.
        world.wait_for_events(answered);
        for _ in 0..20 {
            client.try_send("5\r\nabcde\r\n");
        }
        let answer = client.answer_to("POST");
        assert_eq!((answer.status, answer.text()), (200, "early"), "{framing}");
        assert!(client.is_closed());
    }
}

#[test]
fn a_client_that_waits_for_100_is_told_to_go_on_after_admission() {
    let world = World::new();
    let mut client = world.client();
    client.send(format!(
        "POST /v1/x HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\
         expect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    ));
    assert_eq!(client.head().unwrap().status, 100);
    client.send("abc");
    assert_eq!(client.answer().status, 200);
    let seen = &world.upstream.seen()[0];
    assert_eq!((&seen.body[..], seen.header("expect")), (&b"abc"[..], None));

    let mut refused = world.client();
    refused.send(
        "POST /v1/x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
    );
    assert_eq!(refused.answer().status, 401);
    assert!(refused.is_closed());
}

#[test]
fn http_1_0_clients_get_plain_bodies() {
    let world = World::new();
    let mut client = world.client();
    client.send(format!(
        "GET /v1/chunked HTTP/1.0\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    let answer = client.answer();
    assert_eq!((answer.status, answer.text()), (200, "abcdef"));
    assert!(client.is_closed());
}

#[test]
fn encoded_slashes_pass_where_the_api_says_so_byte_for_byte() {
    let strict = World::new();
    assert_eq!(strict.call("/v1/a%2Fb").status, 400);
    let world = World::with_api(|api| api.encoded_slash = EncodedSlash::Pass);
    assert_eq!(world.call("/v1/a%2Fb").status, 200);
    assert_eq!(world.upstream.seen()[0].target, "/v1/a%2Fb");
}

#[test]
fn anonymous_callers_are_served_on_their_plan() {
    let world = World::with(Wish {
        api: Some(|api| {
            api.anonymous_plan = Some(tollgate_model::PlanId::new("free"));
            let mut scoped = route("/v1/scoped", &["GET"]);
            scoped.scope = Some("read".into());
            api.routes = vec![scoped];
        }),
        ..Wish::default()
    });
    let answer = world.client().get("/v1/x", &[]);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-demo-mode"), Some("true"));
    assert_eq!(answer.header("x-user-id"), Some("anonymous"));
    assert_eq!(answer.header("x-ratelimit-remaining"), Some("999"));
    let policy = answer.header("ratelimit-policy").unwrap();
    assert!(policy.contains("minute-address"), "{policy}");
    assert_eq!(world.client().get("/v1/scoped", &[]).code(), "key_missing");
    let seen = &world.upstream.seen()[0];
    assert_eq!(seen.header("x-tollgate-key-id"), None);
}

#[test]
fn open_routes_ask_for_no_key_and_charge_nothing() {
    let world = World::with_api(|api| {
        let mut open = route("/v1/open", &["GET"]);
        open.open = true;
        api.routes = vec![open];
    });
    let answer = world.client().get("/v1/open", &[]);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-ratelimit-limit"), None);
    assert_eq!(world.call("/v1/open").status, 200);
    let events = world.wait_for_events(2);
    assert!(events.iter().all(|e| e.units == 0));
    let keys = events.iter().filter(|e| e.key.is_some()).count();
    assert_eq!((keys, world.used()), (1, 0));
}
