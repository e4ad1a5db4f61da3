//! Where the ledger is easily lost, on the real binary: a journal that is gone, one without room
//! beside a store that takes nothing, quotas whose periods are changed. However it goes, no limit
//! is passed, nothing answered is missing, and `reconcile` finds no difference.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tollgate_testkit::client::{Call, Connection, Reply};
use tollgate_testkit::load::{self, Amount, Plan};
use tollgate_testkit::{Binary, Oracle, OracleOptions, Setup, client, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// An API, a plan of one quota, and a subscription.
struct Offer<'a> {
    api: &'a str,
    units: u64,
    every: &'a str,
    zone: &'a str,
}

impl Default for Offer<'_> {
    fn default() -> Self {
        Self {
            api: "",
            units: 60,
            every: "month",
            zone: "UTC",
        }
    }
}

impl Offer<'_> {
    fn catalog(&self, upstream: &str) -> String {
        let Self {
            api,
            units,
            every,
            zone,
        } = self;
        format!(
            r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
{api}
[[plan]]
id = "plan"
name = "Plan"
quota = {{ units = {units}, every = "{every}", on_exceeded = "block" }}
[[organization]]
id = "acme"
name = "Acme"
[[subscription]]
id = "acme"
organization = "acme"
apis = ["widgets"]
plan = "plan"
time_zone = "{zone}"
"#
        )
    }
}

struct World {
    oracle: Oracle,
    binary: Binary,
    key: String,
}

impl World {
    async fn start(offer: &Offer<'_>, journal: &str) -> anyhow::Result<Self> {
        let oracle = Oracle::start_with(OracleOptions {
            keep_headers: false,
            ..OracleOptions::default()
        })?;
        let catalog = offer.catalog(&oracle.url());
        let mut setup = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog);
        setup.gateway = "workers = 1\n".to_owned();
        setup.journal = journal.to_owned();
        let binary = setup.start().await?;
        let (_, key) = binary.create_key("acme").await?;
        Ok(Self {
            oracle,
            binary,
            key,
        })
    }

    /// Calls so often, one after the other; answers the statuses.
    async fn call(&self, times: u64) -> anyhow::Result<Vec<u16>> {
        let mut connection = Connection::open(self.binary.gateway()).await?;
        let mut statuses = Vec::new();
        for _ in 0..times {
            let call = Call::get("/v1/things").key(&self.key);
            statuses.push(connection.send(&call).await?.status);
        }
        Ok(statuses)
    }

    async fn call_well(&self, times: u64) -> anyhow::Result<()> {
        let statuses = self.call(times).await?;
        let well = statuses.iter().all(|status| *status == 200);
        ensure!(well, "{statuses:?}");
        Ok(())
    }

    /// Where the quota stands, as its key is told.
    async fn remaining(&self) -> anyhow::Result<u64> {
        let call = Call::get("/.well-known/tollgate/me").key(&self.key);
        let told = client::send(self.binary.gateway(), &call).await?.json()?;
        let quota = told.pointer("/limits/0/remaining").and_then(Value::as_u64);
        quota.with_context(|| told.to_string())
    }

    /// Puts another offer in force, and waits until it is known what was used: on a busy machine
    /// the store may take longer than who publishes waits for it.
    async fn change(&self, offer: &Offer<'_>) -> anyhow::Result<()> {
        let catalog = offer.catalog(&self.oracle.url());
        self.binary.write_catalog(&catalog)?;
        let path = self.binary.folder().join("catalog.toml");
        let path = path.to_string_lossy().into_owned();
        self.binary.run_well(&["apply", "-f", &path])?;
        let asked = "/api/v1/quota/check?subscription_id=acme";
        let known = async || {
            let told = self.binary.get(asked).await;
            told.is_ok_and(|told| told.get("allowed") == Some(&Value::Bool(true)))
        };
        wait_until("the sum is known", SOON, known).await.map(drop)
    }

    /// What passes until nothing does: never more than the limit in all.
    async fn use_up(&self, limit: u64) -> anyhow::Result<()> {
        self.call(limit + 5).await?;
        let seen = self.oracle.count();
        ensure!(seen <= limit, "the upstream saw {seen} of {limit}");
        self.binary.flush().await?;
        self.binary.reconcile()?;
        Ok(())
    }

    fn store(&self) -> PathBuf {
        self.binary.folder().join("tollgate.db")
    }
}

/// Another process holds the store's lock for writing.
struct Locked(rusqlite::Connection);

impl Locked {
    fn hold(store: &std::path::Path) -> anyhow::Result<Self> {
        let connection = rusqlite::Connection::open(store)?;
        connection.busy_timeout(SOON)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(Self(connection))
    }

    fn release(self) -> anyhow::Result<()> {
        Ok(self.0.execute_batch("ROLLBACK")?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_told_after_a_lost_journal_outlives_a_kill() -> anyhow::Result<()> {
    let limit = 60;
    let mut world = World::start(&Offer::default(), "").await?;
    world.call_well(40).await?;
    let status = world.binary.terminate(SOON).await?;
    ensure!(status.success(), "{status}");
    std::fs::remove_dir_all(world.binary.folder().join("journal"))?;
    world.binary.restart().await?;
    // Nothing of this life is shipped: what is told again at the next start is what was told now.
    let locked = Locked::hold(&world.store())?;
    world.call_well(15).await?;
    world.binary.kill9()?;
    locked.release()?;
    world.binary.restart().await?;
    world.use_up(limit).await?;
    // What was granted and not used is given up, one unit here.
    ensure!(
        world.oracle.count() >= limit - 1,
        "{}",
        world.oracle.count()
    );
    Ok(())
}

fn is_journal_full(reply: &Reply) -> bool {
    reply.status == 503 && reply.code() == "journal_full"
}

/// The smallest that may be configured.
const SMALL: &str = "disk_max = \"64MiB\"\nkeep = \"0s\"\n";
/// Records of at least a kilobyte and a half fill that with fewer calls than this.
const CALLS_MAX: u64 = 60_000;
const BATCH: u64 = 3_000;

/// Calls, with records as long as they get.
async fn load_batch(world: &World) -> anyhow::Result<load::Report> {
    let call = Call::get(format!("/v1/{}", "x".repeat(1_020)))
        .key(&world.key)
        .header("user-agent", &"u".repeat(250))
        .header("x-request-id", &"r".repeat(128));
    let amount = Amount::Requests(BATCH);
    let report = load::run(Plan::new(world.binary.gateway(), 16, amount, call)).await;
    ensure!(report.errors() == 0, "{:?}", report.error_texts());
    Ok(report)
}

/// Calls until the journal has no room; answers how many passed.
async fn fill(world: &World) -> anyhow::Result<u64> {
    let mut passed = 0;
    while passed < CALLS_MAX {
        let report = load_batch(world).await?;
        passed += report.count(200);
        let refused = report.count(503);
        ensure!(
            report.count(200) + refused == BATCH,
            "{:?}",
            report.by_status()
        );
        if refused > 0 {
            return Ok(passed);
        }
    }
    anyhow::bail!("the journal never was full")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_without_room_refuses_before_forwarding_and_recovers_by_itself()
-> anyhow::Result<()> {
    let offer = Offer {
        units: 1_000_000,
        ..Offer::default()
    };
    let world = World::start(&offer, SMALL).await?;
    let locked = Locked::hold(&world.store())?;
    let passed = fill(&world).await?;
    let refusal = world.binary.call(&world.key, "/v1/things").await?;
    ensure!(is_journal_full(&refusal), "{refusal:?}");
    let hint = refusal.number("retry-after");
    ensure!(hint.is_some_and(|s| (1..=5).contains(&s)), "{hint:?}");
    ensure!(world.call(20).await?.iter().all(|status| *status == 503));
    ensure!(
        world.oracle.count() == passed,
        "a refused call was forwarded"
    );

    locked.release()?;
    let open = async || world.call(1).await.is_ok_and(|s| s == [200]);
    wait_until("calls pass again", SOON, open).await?;
    world.binary.flush().await?;
    world.binary.reconcile()?;
    let stats = "/api/v1/usage/stats?subscription_id=acme&range=24h";
    let stats = world.binary.get(stats).await?;
    let units = stats.get("units").and_then(Value::as_u64);
    ensure!(units == Some(world.oracle.count()), "{stats}");
    ensure!(
        world
            .binary
            .metric("tollgate_gateway_events_lost_total")
            .await?
            == 0
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declared_loss_is_counted_and_held_against_the_quota() -> anyhow::Result<()> {
    let offer = Offer {
        api: "on_journal_full = \"declare_loss\"",
        units: 1_000_000,
        ..Offer::default()
    };
    let world = World::start(&offer, SMALL).await?;
    let locked = Locked::hold(&world.store())?;
    let mut declared = 0;
    while declared == 0 && world.oracle.count() < CALLS_MAX {
        let report = load_batch(&world).await?;
        ensure!(report.count(200) == BATCH, "{:?}", report.by_status());
        declared = world
            .binary
            .metric("tollgate_gateway_events_lost_total")
            .await?;
    }
    ensure!(declared > 0, "nothing was lost");
    ensure!(
        world
            .binary
            .metric("tollgate_gateway_lost_units_total")
            .await?
            == declared
    );
    let seen = world.oracle.count();
    ensure!(world.remaining().await? == 1_000_000 - seen);
    locked.release()?;
    wait_until("the journal has room", SOON, async || {
        world.binary.flush().await.is_ok()
            && world
                .binary
                .metric("tollgate_gateway_journal_full")
                .await
                .is_ok_and(|full| full == 0)
    })
    .await?;
    world.binary.flush().await?;
    world.binary.reconcile()?;
    let records = world.binary.get("/api/v1/usage/stats?range=24h").await?;
    let units = records.get("units").and_then(Value::as_u64);
    ensure!(units == Some(seen - declared), "{records}, {declared} lost");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_of_another_length_or_zone_starts_from_what_was_used() -> anyhow::Result<()> {
    let limit = 60;
    let day = Offer {
        every: "day",
        ..Offer::default()
    };
    let mut world = World::start(&day, "").await?;
    world.call_well(20).await?;
    let changes = [
        Offer::default(),
        Offer {
            zone: "Pacific/Kiritimati",
            ..Offer::default()
        },
        Offer {
            every: "week",
            zone: "Pacific/Kiritimati",
            ..Offer::default()
        },
        Offer {
            every: "year",
            zone: "America/St_Johns",
            ..Offer::default()
        },
    ];
    let mut used = 20;
    for offer in &changes {
        world.change(offer).await?;
        // A zone's week or month may begin between two of these calls: only then is it less.
        ensure!(world.remaining().await? == limit - used, "{}", offer.every);
        world.call_well(5).await?;
        used += 5;
    }
    world.binary.kill9()?;
    world.binary.restart().await?;
    world.change(&day).await?;
    world.change(&Offer::default()).await?;
    world.use_up(limit).await?;
    ensure!(
        world.oracle.count() + 8 >= limit,
        "{}",
        world.oracle.count()
    );
    Ok(())
}
