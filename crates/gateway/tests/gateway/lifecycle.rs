//! Starting, stopping, starting again, and what strangers' connections may take.

use std::time::Duration;

use tollgate_model::{By, Mode, Outcome, UsageEvent};

use crate::world::{KEY, Wish, World, gist, per_minute};

#[test]
fn draining_closes_idle_connections_lets_requests_end_and_seals() {
    let mut world = World::new();
    let mut idle = world.client();
    assert_eq!(idle.get("/v1/x", &[("x-api-key", KEY)]).status, 200);
    let mut busy = world.client();
    busy.send(format!(
        "GET /v1/held HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    world.upstream.wait_for(2);
    let upstream = world.upstream.clone();
    let drained = std::thread::scope(|scope| {
        let draining = scope.spawn(|| world.drain(Duration::from_secs(10)));
        assert!(idle.is_closed());
        upstream.step();
        let answer = busy.answer();
        assert_eq!((answer.status, answer.text()), (200, "ok"));
        assert!(busy.is_closed());
        draining.join().unwrap()
    });
    assert!(!drained.forced);
    assert!(drained.sealed);
}

#[test]
fn counters_and_records_outlive_a_clean_stop() {
    let mut world = World::with(Wish {
        catalog: Some(|catalog| {
            let plan = catalog.plans.values_mut().next().unwrap();
            std::sync::Arc::make_mut(plan).limits = vec![per_minute(5)];
        }),
        ..Wish::default()
    });
    for _ in 0..3 {
        assert_eq!(world.call("/v1/x").status, 200);
    }
    assert!(!world.drain(Duration::from_secs(5)).forced);
    world.restart();
    assert_eq!((world.used(), world.in_window()), (3, 3));
    let statuses = [(); 4].map(|()| world.call("/v1/x").status);
    assert_eq!(statuses, [200, 200, 429, 429]);
    let forwarded = world.events();
    let forwarded = forwarded.iter().filter(|e| e.outcome == Outcome::Forwarded);
    assert_eq!(forwarded.count(), 5);
}

#[test]
fn requests_wait_until_the_gateway_is_opened() {
    let world = World::with(Wish {
        closed: true,
        ..Wish::default()
    });
    assert!(!world.gateway().is_ready());
    let mut early = world.client();
    early.send(format!(
        "GET /v1/x HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    world.publish();
    assert!(world.gateway().is_ready());
    assert!(world.handle.is_ready());
    assert_eq!(early.answer().status, 200);
}

#[test]
fn a_kill_loses_no_answered_request_and_never_admits_more_than_the_limit() {
    let mut world = World::with(Wish {
        catalog: Some(|catalog| {
            let plan = catalog.plans.values_mut().next().unwrap();
            std::sync::Arc::make_mut(plan).limits = vec![per_minute(30)];
        }),
        ..Wish::default()
    });
    let mut answered = 0;
    for _ in 0..4 {
        for _ in 0..5 {
            answered += usize::from(world.call("/v1/x").status == 200);
        }
        world.crash();
        assert_eq!(world.events().len(), answered);
        assert!(world.in_window() >= answered as u64);
    }
    let more = (0..40)
        .filter(|_| world.call("/v1/x").status == 200)
        .count();
    assert!(answered + more <= 30, "{answered} + {more}");
    // Each kill costs at most the grant that was not used: one unit at this limit.
    assert!(answered + more >= 30 - 4, "{answered} + {more}");
}

#[test]
fn an_exchange_that_a_kill_broke_off_is_recorded_from_its_last_progress() {
    let mut world = World::new();
    let mut client = world.client();
    client.send(format!(
        "GET /v1/stream HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    client.head().unwrap();
    client.chunk(&mut Vec::new());
    world.pass(Duration::from_secs(61));
    world.wait_for_progress();
    world.crash();
    assert_eq!(world.gateway().interrupted(), 1);
    let event = world.the_event();
    assert_eq!(gist(&event), (Outcome::Interrupted, 200, 1));
    assert_eq!(event.bytes_out, 3);
    // Beside its unit what was granted and not used, a 64th of the quota.
    assert!((1..=15).contains(&world.used()), "{}", world.used());
}

#[test]
fn connections_beyond_an_addresss_share_are_told_and_closed() {
    let world = World::with(Wish {
        options: Some(|options| options.connections_per_address_max = 3),
        ..Wish::default()
    });
    let mut held: Vec<_> = (0..3).map(|_| world.client()).collect();
    for client in &mut held {
        assert_eq!(client.get("/v1/x", &[("x-api-key", KEY)]).status, 200);
    }
    let mut fourth = world.client();
    let answer = fourth.answer();
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    assert!(answer.header("retry-after").is_some());
    assert!(fourth.is_closed());
}

#[test]
fn clients_that_say_nothing_for_too_long_are_closed() {
    let world = World::new();
    let mut silent = world.client();
    let mut slow = world.client();
    slow.send("GET /v1/x HT");
    let mut idle = world.client();
    idle.get("/v1/x", &[]);
    world.pass(Duration::from_secs(6));
    assert!(silent.is_closed());
    world.pass(Duration::from_secs(5));
    assert!(slow.is_closed());
    assert_eq!(idle.get("/v1/x", &[]).status, 401);
    world.pass(Duration::from_secs(76));
    assert!(idle.is_closed());
    assert_eq!(world.events().len(), 2);
}

#[test]
fn a_full_journal_refuses_before_anything_is_forwarded() {
    let world = World::with(Wish {
        options: Some(|options| {
            options.workers = 1;
            options.journal.segment_bytes = 16 * 1024;
            options.journal.disk_bytes_max = 2 * 16 * 1024;
        }),
        ..Wish::default()
    });
    let mut client = world.client();
    let statuses: Vec<u16> = (0..200)
        .map(|_| client.get("/v1/x", &[("x-api-key", KEY)]).status)
        .collect();
    assert_eq!(statuses.last(), Some(&503));
    let passed = statuses.iter().filter(|s| **s == 200).count();
    assert_eq!(world.upstream.seen().len(), passed);
    assert_eq!(world.wait_for_events(passed).len(), passed);
    let refused = client.get("/v1/x", &[("x-api-key", KEY)]);
    assert_eq!(refused.code(), "journal_full");
    assert!(refused.header("retry-after").is_some());
}

#[test]
fn what_the_platform_told_and_what_came_after_outlive_a_kill() {
    let mut world = World::new();
    let seed = |world: &World| {
        let period = world.quota_period();
        let handle = &world.handle;
        handle.seed_quota(By::Subscription, "acme-widgets", period, 800);
        assert!(handle.checkpoint());
    };
    seed(&world);
    for _ in 0..15 {
        assert_eq!(world.call("/v1/x").status, 200);
    }
    world.crash();
    seed(&world);
    assert!(world.used() >= 815, "{}", world.used());
    assert!(world.used() <= 815 + 15, "{}", world.used());
}

#[test]
fn a_quota_that_is_not_known_yet_lets_nothing_pass_and_then_counts_what_was_carried() {
    let world = World::new();
    assert_eq!(world.call("/v1/x").status, 200);
    let period = world.quota_period();
    let id = tollgate_model::SubscriptionId::new("acme-widgets");
    world.handle.quotas_are_unknown(&id, &[period.start]);
    let refused = world.call("/v1/x");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "counters_unavailable")
    );
    assert!(refused.header("retry-after").is_some());
    let handle = &world.handle;
    handle.carry_quota(By::Subscription, id.as_str(), period, 41);
    handle.quotas_are_ready(&id, &[period.start]);
    let passed = world.call("/v1/x");
    assert_eq!(passed.status, 200);
    assert_eq!(passed.header("x-ratelimit-used"), Some("42"));
    assert_eq!(world.upstream.seen().len(), 2);
}

#[test]
fn an_api_that_only_observes_passes_calls_whose_quota_is_not_known() {
    let world = World::with_api(|api| api.mode = Mode::Observe);
    let period = world.quota_period();
    let id = tollgate_model::SubscriptionId::new("acme-widgets");
    world.handle.quotas_are_unknown(&id, &[period.start]);
    assert_eq!(world.call("/v1/x").status, 200);
}

#[test]
fn what_a_kill_broke_off_is_recorded_when_there_is_room_again() {
    let mut world = World::with(Wish {
        options: Some(|options| {
            options.workers = 1;
            options.journal.keep_us = 0;
            options.journal.segment_bytes = 16 * 1024;
        }),
        ..Wish::default()
    });
    let mut client = world.client();
    client.send(format!(
        "GET /v1/stream HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n"
    ));
    client.head().unwrap();
    client.chunk(&mut Vec::new());
    world.pass(Duration::from_secs(61));
    world.wait_for_progress();
    let calls = 90;
    let path = format!("/v1/{}", "x".repeat(1_000));
    for _ in 0..calls {
        assert_eq!(world.call(&path).status, 200);
    }
    // The past takes more than all that the journal may have from now on, which is enough for two
    // checkpoints and two segments.
    world.limit_journal(6 * 16 * 1024);
    world.crash();
    assert_eq!(world.gateway().interrupted(), 0);
    let (used, before) = (world.used(), world.events().len());
    assert_eq!(before, calls);
    assert!(used > calls as u64, "{used}");
    assert_eq!(world.call("/v1/x").code(), "journal_full");
    world.make_room();
    let interrupted =
        |events: &[UsageEvent]| events.iter().any(|e| gist(e).0 == Outcome::Interrupted);
    let events = world.wait_until("the broken-off exchange", interrupted);
    let last = events.iter().find(|e| gist(e).0 == Outcome::Interrupted);
    assert_eq!(last.map(gist), Some((Outcome::Interrupted, 200, 1)));
    assert_eq!(world.used(), used, "held before, settled now");
}

#[test]
fn a_wall_clock_set_back_reopens_no_period_over_a_new_catalog_a_kill_and_a_restart() {
    let mut world = World::new();
    for _ in 0..40 {
        assert_eq!(world.call("/v1/x").status, 200);
    }
    let month = Duration::from_secs(31 * 86_400);
    world.pass(month);
    assert_eq!(world.call("/v1/x").status, 200);
    assert_eq!(world.used(), 1);
    world.set_back(month);
    assert_eq!(world.call("/v1/x").header("x-ratelimit-used"), Some("2"));
    world.catalog.version += 1;
    world.publish();
    assert_eq!(world.call("/v1/x").header("x-ratelimit-used"), Some("3"));
    assert!(!world.drain(Duration::from_secs(5)).forced);
    world.restart();
    assert_eq!(world.used(), 3);
    world.crash();
    // Beside its units what was granted and not used, a 64th of the quota.
    assert!((3..=18).contains(&world.used()), "{}", world.used());
    // And once more: what has not been seen since is written down.
    world.crash();
    assert!((3..=33).contains(&world.used()), "{}", world.used());
}
