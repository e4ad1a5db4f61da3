//! Requests out of form: answered 400 or not at all, closed, never forwarded.

use crate::world::{KEY, World};

fn refused(world: &World, bytes: &str) -> Option<u16> {
    let mut client = world.client();
    client.try_send(bytes);
    let head = client.head()?;
    if head.status != 200 {
        let _closed = client.stream.shutdown(std::net::Shutdown::Write);
        while !client.is_closed() {
            if client.exactly(1).is_none() {
                break;
            }
        }
    }
    Some(head.status)
}

fn request(line: &str, headers: &str, body: &str) -> String {
    format!("{line}\r\nhost: a\r\nx-api-key: {KEY}\r\n{headers}\r\n{body}")
}

#[test]
fn broken_or_ambiguous_heads_are_400_and_reach_no_upstream() {
    let world = World::new();
    let post = "POST /v1/x HTTP/1.1";
    let get = "GET /v1/x HTTP/1.1";
    let cases = [
        request(
            post,
            "content-length: 3\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        request(
            post,
            "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
            "0\r\n\r\n",
        ),
        request(post, "content-length: 3\r\ncontent-length: 3\r\n", "abc"),
        request(post, "content-length: 3\r\ncontent-length: 4\r\n", "abcd"),
        request(post, "content-length: +3\r\n", "abc"),
        request(post, "content-length: 3, 3\r\n", "abc"),
        request(post, "content_length: 3\r\n", "abc"),
        request(post, "transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        request(post, "transfer-encoding: identity\r\n", ""),
        request(
            post,
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        request(post, "transfer-encoding : chunked\r\n", "0\r\n\r\n"),
        request(
            "POST /v1/x HTTP/1.0",
            "transfer-encoding: chunked\r\n",
            "0\r\n\r\n",
        ),
        request(get, "x: 1\r\n folded\r\n", ""),
        request(get, "x: a\0b\r\n", ""),
        request(get, "host: b\r\n", ""),
        request(get, "x-subscription-key: other\r\n", ""),
        request(get, "expect: something\r\n", ""),
        request("GET http://b/v1/x HTTP/1.1", "", ""),
        request("CONNECT a:80 HTTP/1.1", "", ""),
        request("GET /v1//x HTTP/1.1", "", ""),
        request("GET /v1/../x HTTP/1.1", "", ""),
        request("GET /v1/%2e%2e/x HTTP/1.1", "", ""),
        request("GET /v1/%00 HTTP/1.1", "", ""),
        request("GET /v1/%5c HTTP/1.1", "", ""),
        request("GET /v1/%zz HTTP/1.1", "", ""),
        request("OPTIONS * HTTP/1.1", "", ""),
        request(&format!("GET /v1/{} HTTP/1.1", "a".repeat(9_000)), "", ""),
        "GET /v1/x HTTP/1.1\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(),
    ];
    for case in &cases {
        let status = refused(&world, case);
        assert!(matches!(status, Some(400)), "{status:?} for {case:?}");
    }
    assert!(
        world.upstream.seen().is_empty(),
        "{:?}",
        world.upstream.seen()
    );
    assert!(world.events().is_empty());
}

#[test]
fn heads_that_are_too_long_are_431() {
    let world = World::new();
    let get = "GET /v1/x HTTP/1.1";
    let long = request(get, &format!("x: {}\r\n", "a".repeat(70_000)), "");
    assert_eq!(refused(&world, &long), Some(431));
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(refused(&world, &request(get, &many, "")), Some(431));
    assert!(world.upstream.seen().is_empty());
}

#[test]
fn chunks_out_of_form_never_become_another_request() {
    let world = World::new();
    let smuggled = "GET /v1/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for body in [
        format!("3\r\nabcX\r\n{smuggled}"),
        format!("-1\r\n\r\n{smuggled}"),
        format!("3\nabc\r\n0\r\n\r\n{smuggled}"),
        format!("0\r\nhost: b\r\n\r\n{smuggled}"),
        format!("ffffffffffffffff1\r\n{smuggled}"),
    ] {
        let bytes = request(
            "POST /v1/x HTTP/1.1",
            "transfer-encoding: chunked\r\n",
            &body,
        );
        let status = refused(&world, &bytes);
        assert!(
            matches!(status, None | Some(400)),
            "{status:?} for {body:?}"
        );
    }
    let seen = world.upstream.seen();
    assert!(seen.iter().all(|s| !s.target.contains("smuggled")));
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn a_good_request_is_answered_before_the_bad_one_behind_it() {
    let world = World::new();
    let mut client = world.client();
    let good = request("GET /v1/x HTTP/1.1", "", "");
    let bad = request(
        "GET /v1/y HTTP/1.1",
        "content-length: 1\r\ncontent-length: 1\r\n",
        "z",
    );
    client.send(good + &bad);
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.head().map(|a| a.status), Some(400));
    assert_eq!(world.upstream.seen().len(), 1);
}

#[test]
fn upgrades_that_the_upstream_declines_close_the_connection() {
    let world = World::new();
    let mut client = world.client();
    client.send(format!(
        "GET /v1/no-ws HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\
         connection: upgrade\r\nupgrade: websocket\r\n\r\n\
         GET /v1/smuggled HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert!(client.is_closed());
    assert_eq!(world.upstream.seen().len(), 1);
}

#[test]
fn cleartext_http_2_is_not_tunnelled() {
    let world = World::new();
    let mut client = world.client();
    client.send(format!(
        "GET /v1/ws HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\
         connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n\r\n"
    ));
    // The stub answers 101 whatever it is asked: without our asking that is nonsense.
    assert_eq!(client.answer().status, 502);
    assert_eq!(world.upstream.seen()[0].header("upgrade"), None);
}
