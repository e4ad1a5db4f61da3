//! One event for every exchange, however it ends, with the units that were charged.

use tollgate_model::{DenialCode, Outcome, Unlisted};

use crate::world::{KEY, Wish, World, durable, gist, route};

#[test]
fn what_is_charged_follows_from_how_the_call_ended() {
    let cases = [
        ("/v1/status/200", Outcome::Forwarded, 200, 1, 1),
        ("/v1/status/404", Outcome::Forwarded, 404, 1, 1),
        ("/v1/status/500", Outcome::Forwarded, 500, 0, 1),
        ("/v1/hang-up", Outcome::UpstreamError, 502, 0, 1),
        ("/v1/nonsense", Outcome::UpstreamError, 502, 0, 1),
        ("/v1/both-lengths", Outcome::UpstreamError, 502, 0, 1),
        ("/v1/break", Outcome::UpstreamError, 200, 0, 1),
    ];
    for (path, outcome, status, units, window) in cases {
        let world = World::new();
        let answer = world.call(path);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.whole, path != "/v1/break");
        let event = world.the_event();
        assert_eq!(gist(&event), (outcome, status, units), "{path}");
        assert_eq!((world.used(), world.in_window()), (units, window), "{path}");
        if path != "/v1/break" {
            // Given back already in what the caller is told.
            assert_eq!(
                answer.header("x-ratelimit-used"),
                Some(units.to_string().as_str()),
                "{path}"
            );
        }
    }
}

#[test]
fn an_upstream_that_cannot_be_reached_costs_nothing() {
    let world = World::with_api(|api| api.upstreams[0].port = 1);
    let answer = world.call("/v1/x");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "upstream_unreachable")
    );
    let event = world.the_event();
    assert_eq!(gist(&event), (Outcome::UpstreamError, 502, 0));
    assert_eq!(event.code, Some(DenialCode::UpstreamUnreachable));
    assert_eq!((world.used(), world.in_window()), (0, 0));
}

#[test]
fn an_upstream_that_is_too_slow_is_504() {
    let world = World::with_api(|api| api.response_timeout_us = 50_000);
    let answer = world.call("/v1/silent");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (504, "upstream_timeout")
    );
    assert_eq!(gist(&world.the_event()), (Outcome::UpstreamError, 504, 0));
    assert_eq!((world.used(), world.in_window()), (0, 1));
    world.upstream.wait_for_closed(1);
}

#[test]
fn a_client_that_leaves_before_the_head_is_charged_as_reserved() {
    let world = World::new();
    let mut client = world.client();
    client.send(format!(
        "GET /v1/silent HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    world.upstream.wait_for(1);
    client.leave();
    assert_eq!(gist(&world.the_event()), (Outcome::ClientClosed, 499, 1));
    world.upstream.wait_for_closed(1);
    assert_eq!(world.used(), 1);
}

#[test]
fn a_client_that_leaves_in_a_stream_is_recorded_with_what_it_got() {
    let world = World::new();
    let mut client = world.client();
    client.send(format!(
        "GET /v1/stream HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    assert_eq!(client.head().unwrap().status, 200);
    let mut body = Vec::new();
    client.chunk(&mut body);
    world.upstream.step();
    client.chunk(&mut body);
    assert_eq!(body, b"abcabc");
    client.leave();
    let event = world.the_event();
    assert_eq!(gist(&event), (Outcome::ClientClosed, 200, 1));
    assert_eq!(event.bytes_out, 6);
}

#[test]
fn frames_of_a_stream_are_passed_on_as_they_come() {
    let world = World::new();
    let mut client = world.client();
    client.send(format!(
        "GET /v1/stream HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    client.head().unwrap();
    let mut body = Vec::new();
    for round in 1..=5 {
        // Each chunk is there before the upstream may send the next.
        assert_eq!(client.chunk(&mut body), Some(3));
        assert_eq!(body.len(), 3 * round);
        world.upstream.step();
    }
}

#[test]
fn an_answer_does_not_end_before_its_record_is_written() {
    for options in [None, Some(durable as fn(&mut _))] {
        let world = World::with(Wish {
            options,
            ..Wish::default()
        });
        let mut client = world.client();
        let paths = ["/v1/x", "/v1/chunked", "/v1/status/204", "/v1/hang-up"];
        for (n, path) in paths.iter().enumerate() {
            client.get(path, &[("x-api-key", KEY)]);
            assert_eq!(world.events().len(), n + 1, "{path}");
        }
        client.get("/v1/x", &[("x-api-key", "wrong")]);
        assert_eq!(world.events().len(), paths.len() + 1);
    }
}

#[test]
fn a_stated_cost_is_charged_up_to_the_routes_maximum() {
    let world = World::with_api(|api| {
        let mut route = route("/v1/cost/{n}", &["GET"]);
        route.cost_max = Some(20);
        let mut trailers = crate::world::route("/v1/trailers", &["GET"]);
        trailers.cost_max = Some(20);
        api.routes = vec![route, trailers];
    });
    let seven = world.call("/v1/cost/7");
    assert_eq!(seven.header("tollgate-cost"), None);
    assert_eq!(seven.header("x-ratelimit-used"), Some("7"));
    assert_eq!((world.used(), world.in_window()), (7, 7));
    world.call("/v1/cost/99");
    assert_eq!((world.used(), world.in_window()), (27, 27));
    let trailers = world.call("/v1/trailers");
    // Not known yet when the head was sent.
    assert_eq!(trailers.header("x-ratelimit-used"), Some("47"));
    assert_eq!((world.used(), world.in_window()), (34, 34));
    let units: u64 = world.wait_for_events(3).iter().map(|e| e.units).sum();
    assert_eq!(units, 34);
}

#[test]
fn records_tell_who_what_and_how_long() {
    let world = World::with_api(|api| {
        let mut route = route("/v1/widgets/{id}", &["GET"]);
        route.labels.insert("team".into(), "blue".into());
        api.routes = vec![route];
    });
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("x-api-key", KEY),
        ("user-agent", "probe/1"),
        ("x-request-id", "mine-1"),
        ("traceparent", trace),
    ];
    world.client().get("/v1/widgets/7?secret=1", &headers);
    let event = world.the_event();
    assert_eq!(&*event.route, "/v1/widgets/{id}");
    assert_eq!(&*event.path, "/v1/widgets/7");
    assert_eq!(&*event.method, "GET");
    assert_eq!(event.user_agent.as_deref(), Some("probe/1"));
    assert_eq!(event.client_request_id.as_deref(), Some("mine-1"));
    assert_eq!(
        event.trace_id.as_deref(),
        Some("0af7651916cd43dd8448eb211c80319c")
    );
    assert_eq!(&*event.labels[0].value, "blue");
    assert_eq!(event.plan.as_ref().unwrap().as_str(), "free");
    assert_eq!(event.organization.as_ref().unwrap().as_str(), "acme");
    assert_eq!(event.address.unwrap().to_string(), "127.0.0.1");
    assert!(event.subscription_period.is_some());
    assert!(event.upstream_latency_us.unwrap() <= event.latency_us);
    assert_eq!(event.catalog_version, 1);
}

#[test]
fn bad_requests_and_unknown_paths_are_figures_only() {
    let world = World::with_api(|api| api.unlisted = Unlisted::Refuse);
    world.call("/nowhere");
    world.call("/v1/unlisted");
    world.call("/v1//x");
    // An event that comes after them shows that none of them is on its way.
    world.client().get("/v1/unlisted", &[]);
    assert!(world.events().is_empty());
}

#[test]
fn a_trace_that_begins_here_is_recorded_as_the_upstream_was_told() {
    let world = World::new();
    assert_eq!(world.call("/v1/x").status, 200);
    let seen = world.upstream.seen();
    let told = seen[0].header("traceparent").unwrap();
    let event = world.the_event();
    assert_eq!(told.split('-').nth(1), event.trace_id.as_deref());
}

#[test]
fn refused_calls_have_no_trace_of_ours() {
    let world = World::new();
    world.client().get("/v1/x", &[("x-api-key", "hm_unknown")]);
    assert_eq!(world.the_event().trace_id, None);
}
