//! Exchanges that take long: tunnels, streams, and their end by us.

use std::time::Duration;

use tollgate_model::{KeyState, Outcome};

use crate::client::Client;
use crate::world::{KEY, World, gist};

fn upgraded(world: &World) -> Client {
    let mut client = world.client();
    client.send(format!(
        "GET /v1/ws HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-key: x\r\n\r\n"
    ));
    let head = client.head().unwrap();
    assert_eq!(head.status, 101);
    assert_eq!(head.header("upgrade"), Some("websocket"));
    assert_eq!(head.header("connection"), Some("upgrade"));
    assert_eq!(head.header("x-ratelimit-used"), Some("1"));
    client
}

#[test]
fn tunnels_pass_bytes_both_ways_and_are_recorded_when_they_end() {
    let world = World::new();
    let mut client = upgraded(&world);
    for round in 0..50u8 {
        let message = [round; 100];
        client.send(message);
        assert_eq!(client.exactly(100).unwrap(), message);
    }
    assert!(world.events().is_empty());
    client.leave();
    let event = world.the_event();
    assert_eq!(gist(&event), (Outcome::Forwarded, 101, 1));
    assert_eq!((event.bytes_in, event.bytes_out), (5_000, 5_000));
}

#[test]
fn bytes_sent_with_the_upgrade_are_the_tunnels() {
    let world = World::new();
    let mut client = world.client();
    client.send(format!(
        "GET /v1/ws HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\n\r\n\u{1}early bytes\n"
    ));
    assert_eq!(client.head().unwrap().status, 101);
    assert_eq!(client.exactly(13).unwrap(), b"\x01early bytes\n");
}

#[test]
fn revoking_a_key_closes_its_tunnels_with_1008() {
    let world = World::new();
    let mut client = upgraded(&world);
    // A whole frame, so that the close frame stands between two.
    client.send([0x81, 0x02, b'h', b'i']);
    assert_eq!(client.exactly(4).unwrap(), [0x81, 0x02, b'h', b'i']);
    world.change_key(2, |k| k.state = KeyState::Revoked);
    assert_eq!(client.exactly(4).unwrap(), [0x88, 0x02, 0x03, 0xf0]);
    assert!(client.is_closed());
    assert_eq!(world.the_event().outcome, Outcome::Cut);
    world.upstream.wait_for_closed(1);
}

#[test]
fn revoking_a_key_cuts_what_it_has_in_flight_and_nothing_else() {
    let world = World::new();
    let mut other_key = world.key.clone();
    other_key.id = tollgate_model::KeyId::new("key_2");
    other_key.hash = tollgate_model::Pepper::new(b"pepper".to_vec()).hash(b"hm_other");
    world.put_key(&other_key, 2);
    let stream = |key: &str| {
        let mut client = world.client();
        client.send(format!(
            "GET /v1/stream HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n"
        ));
        assert_eq!(client.head().unwrap().status, 200);
        client.chunk(&mut Vec::new());
        client
    };
    let mut ended = stream(KEY);
    let mut waiting = world.client();
    waiting.send(format!(
        "GET /v1/silent HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    world.upstream.wait_for(2);
    let mut other = stream("hm_other");
    world.change_key(3, |k| k.state = KeyState::Revoked);
    assert_eq!(ended.chunk(&mut Vec::new()), None);
    assert!(waiting.head().is_none());
    let events = world.wait_for_events(2);
    assert!(events.iter().all(|e| e.outcome == Outcome::Cut));
    // The one without a head was ended by us, not left by its client.
    let mut statuses: Vec<u16> = events.iter().map(|e| e.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    // The other key's stream goes on.
    world.upstream.step();
    assert_eq!(other.chunk(&mut Vec::new()), Some(3));
}

#[test]
fn a_stream_outlives_a_drain_only_until_its_deadline() {
    let mut world = World::new();
    let mut client = world.client();
    client.send(format!(
        "GET /v1/stream HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    client.head().unwrap();
    client.chunk(&mut Vec::new());
    let reader = world.gateway().reader().unwrap();
    let drained = world.drain(Duration::from_millis(50));
    assert!(drained.forced);
    assert_eq!(client.chunk(&mut Vec::new()), None);
    drop(reader);
}

#[test]
fn tunnels_and_streams_end_with_their_time() {
    let world = World::new();
    let mut tunnel = upgraded(&world);
    world.pass(Duration::from_secs(24 * 3_600 + 1));
    assert_eq!(tunnel.exactly(4).unwrap(), [0x88, 0x02, 0x03, 0xf0]);
    assert!(tunnel.is_closed());

    let mut stream = world.client();
    stream.send(format!(
        "GET /v1/stream HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    stream.head().unwrap();
    stream.chunk(&mut Vec::new());
    let soon = world.now().plus_us(10_000_000);
    // No end by this change itself: the key is good for a while.
    world.change_key(2, |k| k.expires_at = Some(soon));
    world.upstream.step();
    assert_eq!(stream.chunk(&mut Vec::new()), Some(3));
    world.pass(Duration::from_secs(11));
    assert_eq!(stream.chunk(&mut Vec::new()), None);
    let events = world.wait_for_events(2);
    assert!(
        events.iter().all(|e| e.outcome == Outcome::Cut),
        "{events:?}"
    );
}
