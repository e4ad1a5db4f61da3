//! Never one request over a limit, and none less: attempts from many clients over limits of many
//! sizes, counted by the upstream, the clients, the records and the counters alike.
//!
//! `TOLLGATE_ATTEMPTS` sets how many attempts are made in a round (40 000), `TOLLGATE_ROUNDS` how
//! many rounds there are (1), each with a server of its own.

mod changes;
mod setup;
mod storm;
mod together;
mod windows;

use std::io::Write as _;

use anyhow::ensure;
use setup::{Offer, start, stats, used};
use storm::Storm;
use tollgate_testkit::{Binary, Oracle, setting};

/// Attempts in each round.
fn attempts() -> u64 {
    setting("TOLLGATE_ATTEMPTS", 40_000)
}

/// How often everything is done.
fn rounds() -> u64 {
    setting("TOLLGATE_ROUNDS", 1)
}

fn say(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "figure: {line}")?)
}

/// A limit, how often it is tried, and by how many clients.
struct Case {
    limit: u64,
    attempts: u64,
    clients: usize,
    /// Of a day's sliding window; else a month's quota.
    window: bool,
}

impl Case {
    fn offer(&self) -> Offer {
        let (kind, limit) = (if self.window { "w" } else { "q" }, self.limit);
        let rules = if self.window {
            format!("limits = [{{ max = {limit}, per = \"day\" }}]")
        } else {
            format!("quota = {{ units = {limit}, every = \"month\", on_exceeded = \"block\" }}")
        };
        Offer {
            id: format!("{kind}{limit}-by-{}", self.clients),
            rules,
        }
    }

    fn counter(&self) -> &'static str {
        if self.window {
            "day-subscription"
        } else {
            "month-subscription"
        }
    }
}

/// Limits from 1 up to a million (where there are two million attempts), by 1 to 512 clients. A
/// large window gets six tenths of the attempts, a large quota one, ten small ones the rest; each
/// is tried beyond its limit.
fn cases(attempts: u64) -> Vec<Case> {
    let small = attempts * 3 / 100;
    let mut cases = Vec::new();
    for window in [true, false] {
        for (limit, clients) in [(1, 1), (1, 512), (10, 64), (100, 8), (1_000, 256)] {
            cases.push(Case {
                limit: limit.min(small / 2),
                attempts: small,
                clients,
                window,
            });
        }
        let (limit, tried, clients) = if window {
            ((attempts / 2).min(1_000_000), attempts * 6 / 10, 128)
        } else {
            (attempts / 20, attempts / 10, 512)
        };
        cases.push(Case {
            limit,
            attempts: tried,
            clients,
            window,
        });
    }
    cases
}

async fn try_case(binary: &Binary, oracle: &Oracle, case: &Case) -> anyhow::Result<()> {
    let (id, limit) = (case.offer().id, case.limit);
    let (_, key) = binary.create_key(&id).await?;
    let before = oracle.count();
    let keys = [key.clone()];
    let storm = Storm::new(binary.gateway(), &keys, case.clients, case.attempts);
    let outcome = storm.run().await?;
    let (admitted, refused) = (outcome.count(200), outcome.count(429));
    let by_status = &outcome.by_status;
    assert_eq!(admitted, limit, "{id}: answered 200: {by_status:?}");
    assert_eq!(admitted + refused, case.attempts, "{id}: {by_status:?}");
    assert_eq!(oracle.count() - before, limit, "{id}: seen upstream");
    assert_eq!(
        used(binary, &key, case.counter()).await?,
        limit,
        "{id}: used"
    );
    binary.flush().await?;
    let recorded = stats(binary, &id, "requests").await?;
    assert_eq!(recorded, case.attempts, "{id}: recorded");
    assert_eq!(stats(binary, &id, "denied").await?, refused, "{id}: denied");
    assert_eq!(stats(binary, &id, "units").await?, limit, "{id}: units");
    say(&format!(
        "{id}: limit {limit}, {} clients, {} attempts, admitted {admitted}, upstream {}, \
         {} attempts/s",
        case.clients,
        case.attempts,
        oracle.count() - before,
        outcome.per_second()
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admitted_is_exactly_the_limit_under_any_number_of_clients() -> anyhow::Result<()> {
    let cases = cases(attempts());
    let offers: Vec<Offer> = cases.iter().map(Case::offer).collect();
    for round in 1..=rounds() {
        let (oracle, binary) = start(&offers).await?;
        for case in &cases {
            try_case(&binary, &oracle, case).await?;
        }
        binary.reconcile()?;
        let tried: u64 = cases.iter().map(|case| case.attempts).sum();
        ensure!(tried > 0, "no attempts");
        say(&format!(
            "round {round}: {} cases, {tried} attempts, upstream {}",
            cases.len(),
            oracle.count()
        ))?;
    }
    Ok(())
}
