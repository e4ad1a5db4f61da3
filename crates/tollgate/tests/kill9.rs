//! `kill -9` of the real binary under load, again and again, also while it starts, restores and
//! stops: nothing acknowledged is lost, nothing is counted twice, and the upstream never sees one
//! request over any of several windows and quotas that are all near their ends.
//!
//! `TOLLGATE_KILL9_CYCLES` sets how often (6, half of them with `sync = "durable"`),
//! `TOLLGATE_KILL9_POSTGRES_CYCLES` how often with the store on PostgreSQL (2), `TOLLGATE_SEED` the first
//! choice.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tollgate_testkit::client::Call;
use tollgate_testkit::load::{self, Amount, OnBroken, Plan, Report};
use tollgate_testkit::{
    AcknowledgedSet, Binary, Oracle, OracleOptions, Postgres, SeededIds, Setup, setting,
    wait_until, wall_us,
};

const CLIENTS: usize = 32;
const SUBSCRIPTIONS: usize = 4;
const KEYS_EACH: usize = 2;
const KEYS: usize = SUBSCRIPTIONS * KEYS_EACH;
/// Requests that come through in every cycle, at least.
const THROUGH_MIN: u64 = 10;
const SOON: Duration = Duration::from_secs(20);
/// Longest start after a kill; a build without optimisation on a busy machine may take longer.
const READY_MS_MAX: u128 = if cfg!(debug_assertions) {
    10_000
} else {
    2_000
};
const SECOND_US: u64 = 1_000_000;

/// What the upstream may see.
struct Rule {
    name: &'static str,
    /// Of these keys together.
    keys: std::ops::Range<usize>,
    /// In any span of this length; in the whole run where there is none.
    span_us: Option<u64>,
    max: u64,
}

/// Every kind of counter: windows of seconds, minutes, hours, days, and quotas, by key and by
/// subscription. Short ones are exhausted in every cycle, long ones in the course of the run.
fn rules(cycles: u64) -> Vec<Rule> {
    let rule = |name, keys, span_s: Option<u64>, max| Rule {
        name,
        keys,
        span_us: span_s.map(|s| s * SECOND_US),
        max,
    };
    vec![
        rule("a second, subscription", 0..2, Some(1), 40),
        rule("a minute, key", 0..1, Some(60), 1_000),
        rule("a minute, key", 1..2, Some(60), 1_000),
        rule("a second, key", 2..3, Some(1), 25),
        rule("a second, key", 3..4, Some(1), 25),
        rule("a minute, subscription", 2..4, Some(60), 400),
        rule("a month, subscription", 4..6, None, cycles * 40 + 100),
        rule("a day, key", 4..5, Some(86_400), cycles * 30 + 100),
        rule("a day, key", 5..6, Some(86_400), cycles * 30 + 100),
        rule("a second, subscription", 6..8, Some(1), 60),
        rule(
            "an hour, subscription",
            6..8,
            Some(3_600),
            cycles * 50 + 200,
        ),
        rule("a month, key", 6..7, None, cycles * 20 + 50),
    ]
}

fn catalog(upstream: &str, cycles: u64) -> anyhow::Result<String> {
    let mut text = format!(
        "[[api]]\nid = \"widgets\"\nupstreams = [\"{upstream}\"]\npath_prefix = \"/v1\"\n\
         key_prefix = \"hm\"\n[[organization]]\nid = \"acme\"\nname = \"Acme\"\n"
    );
    let day = cycles * 30 + 100;
    let plans = [
        "limits = [{ max = 40, per = \"second\" }, { max = 1000, per = \"minute\", by = \"key\" }]"
            .to_owned(),
        "limits = [{ max = 25, per = \"second\", by = \"key\" }, { max = 400, per = \"minute\" }]"
            .to_owned(),
        format!(
            "quota = {{ units = {}, every = \"month\", on_exceeded = \"block\" }}\n\
             limits = [{{ max = {day}, per = \"day\", by = \"key\" }}]",
            cycles * 40 + 100
        ),
        format!(
            "limits = [{{ max = 60, per = \"second\" }}, {{ max = {}, per = \"hour\" }}]",
            cycles * 50 + 200
        ),
    ];
    for (n, plan) in plans.iter().enumerate() {
        write!(
            text,
            "[[plan]]\nid = \"p{n}\"\nname = \"p{n}\"\n{plan}\n[[subscription]]\nid = \"s{n}\"\n\
             organization = \"acme\"\napis = [\"widgets\"]\nplan = \"p{n}\"\n"
        )?;
    }
    Ok(text)
}

/// A request that the upstream saw: sent and seen, by the oracle's clock. It was admitted between.
#[derive(Clone, Copy)]
struct Through {
    key: usize,
    sent_us: u64,
    seen_us: u64,
}

struct World {
    oracle: Oracle,
    binary: Binary,
    keys: Vec<String>,
    rules: Vec<Rule>,
    choices: SeededIds,
    acknowledged: AcknowledgedSet,
    /// When each request was sent, by its number over all cycles.
    sent_us: Vec<u64>,
    /// 503s by code.
    unavailable: BTreeMap<String, u64>,
    starts: Vec<Duration>,
    kills: u64,
    /// Units of quotas that count without a record.
    held: u64,
}

impl World {
    async fn start(
        cycles: u64,
        journal: &str,
        seed: u64,
        postgres: Option<&Postgres>,
    ) -> anyhow::Result<Self> {
        let oracle = Oracle::start_with(OracleOptions {
            keep_headers: false,
            ..OracleOptions::default()
        })?;
        let catalog = catalog(&oracle.url(), cycles)?;
        let mut setup = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog);
        setup.journal = journal.to_owned();
        if let Some(server) = postgres {
            setup = setup.on(server)?;
        }
        let binary = setup.start().await?;
        let mut keys = Vec::new();
        for n in 0..KEYS {
            let mut wish =
                json!({"subscription_id": format!("s{}", n / KEYS_EACH), "name": "test"});
            if n == 6 {
                let units = cycles * 20 + 50;
                let quota = json!({"units": units, "every": "month", "on_exceeded": "block"});
                wish.as_object_mut()
                    .context("an object")?
                    .insert("quota".to_owned(), quota);
            }
            keys.push(binary.create_key_with(wish).await?.1);
        }
        Ok(Self {
            oracle,
            binary,
            keys,
            rules: rules(cycles),
            choices: SeededIds::new(seed),
            acknowledged: AcknowledgedSet::default(),
            sent_us: Vec::new(),
            unavailable: BTreeMap::new(),
            starts: Vec::new(),
            kills: 0,
            held: 0,
        })
    }

    fn pick(&self, below: u64) -> u64 {
        self.choices.next_u64() % below
    }

    fn plan(&self, amount: Amount) -> Plan {
        let base = self.sent_us.len() as u64;
        let keys = self.keys.clone();
        let mut plan = Plan::new(self.binary.gateway(), CLIENTS, amount, Call::get("/"));
        plan.call = Arc::new(move |number| {
            let n = base + number;
            let key = keys.get(key_of(n)).map_or("", String::as_str);
            Call::get(format!("/v1/things?delay_ms=1&n={n}")).key(key)
        });
        plan
    }

    /// Takes in what a run was answered, which began at this moment of the oracle's clock.
    fn take(&mut self, report: &Report, oracle_us: u64) -> anyhow::Result<()> {
        let sent = report.attempts.iter().map(|a| oracle_us + a.begun_us);
        self.sent_us.extend(sent);
        for (code, count) in report.unavailable() {
            *self.unavailable.entry(code.to_owned()).or_default() += count;
        }
        self.acknowledged.take(report)
    }

    /// Load until so many answers came; then the process dies, in one of several ways.
    async fn load_and_kill(&mut self) -> anyhow::Result<i64> {
        let answers = 100 + self.pick(500);
        let seen_before = self.oracle.count();
        let mut plan = self.plan(Amount::Requests(u64::MAX));
        plan.on_broken = OnBroken::Stop;
        let acknowledged = Arc::clone(&plan.acknowledged);
        let (oracle_us, began_us) = (self.oracle.clock().us(), wall_us());
        let running = tokio::task::JoinSet::from_iter([load::run(plan)]);
        wait_until("answers come under load", SOON, async || {
            // Windows that the cycle before has filled let nothing through for a moment.
            let through = self.oracle.count() >= seen_before + THROUGH_MIN;
            through && acknowledged.load(Ordering::SeqCst) >= answers
        })
        .await?;
        if self.pick(5) == 0 {
            // In the middle of an orderly stop.
            self.binary.ask_to_end()?;
        }
        self.kill_within_ms(30).await?;
        let mut reports = running.join_all().await;
        let report = reports.pop().context("one run of load")?;
        self.take(&report, oracle_us)?;
        Ok(began_us)
    }

    /// At a random moment: that is what is tried, nothing is waited for.
    async fn kill_within_ms(&mut self, ms: u64) -> anyhow::Result<()> {
        let us = self.pick(ms * 1_000);
        tokio::time::sleep(Duration::from_micros(us)).await;
        self.kills += 1;
        self.binary.kill9()
    }

    async fn start_again(&mut self) -> anyhow::Result<()> {
        while self.pick(2) == 0 {
            self.binary.launch()?;
            self.kill_within_ms(150).await?;
        }
        self.starts.push(self.binary.restart().await?);
        Ok(())
    }

    async fn cycle(&mut self) -> anyhow::Result<()> {
        let began_us = self.load_and_kill().await?;
        self.start_again().await?;
        self.check_held().await?;
        let from = jiff::Timestamp::from_microsecond(began_us - 1_000_000)?;
        let records = self.binary.records_by_id(&format!("from={from}")).await?;
        self.acknowledged.all_among(&records, began_us)?;
        // Windows that reach back further than a minute are looked at in the end.
        let recent_us = self.oracle.clock().us().saturating_sub(70 * SECOND_US);
        self.check_rules(recent_us)?;
        Ok(())
    }

    fn through(&self) -> anyhow::Result<Vec<Through>> {
        let mut all = Vec::new();
        for seen in self.oracle.seen() {
            let Some((_, n)) = seen.path.split_once("n=") else {
                continue;
            };
            let n: u64 = n.parse()?;
            let sent_us = self.sent_us.get(usize::try_from(n)?);
            all.push(Through {
                key: key_of(n),
                sent_us: *sent_us.context("seen, never sent")?,
                seen_us: seen.at_us,
            });
        }
        all.sort_unstable_by_key(|one| one.sent_us);
        Ok(all)
    }

    /// The upstream's own count, in every span that begins at `from_us` or later.
    fn check_rules(&self, from_us: u64) -> anyhow::Result<()> {
        let all = self.through()?;
        for rule in &self.rules {
            let (name, max) = (rule.name, rule.max);
            let of_rule = all.iter().filter(|one| rule.keys.contains(&one.key));
            let of_rule: Vec<Through> = of_rule.copied().collect();
            let most = match rule.span_us {
                None => of_rule.len(),
                Some(span_us) => most_within(&of_rule, from_us, span_us),
            };
            let keys = &rule.keys;
            ensure!(
                most as u64 <= max,
                "{name} {keys:?}: {most} within one span of {max}"
            );
        }
        Ok(())
    }

    /// What a life under load gives up: of each quota a grant that was not used, and what was in
    /// flight. Lives that were killed before they served give up nothing more.
    async fn check_held(&mut self) -> anyhow::Result<()> {
        wait_until("the counters are shown", SOON, async || {
            let shown = self.binary.metric("tollgate_gateway_counters").await;
            shown.is_ok_and(|counters| counters > 0)
        })
        .await?;
        let held = self.binary.metric("tollgate_gateway_held_units").await?;
        let quotas = self.rules.iter().filter(|rule| rule.span_us.is_none());
        let grants: u64 = quotas.map(|rule| rule.max / 64 + 1).sum();
        let grown = held.saturating_sub(self.held);
        ensure!(
            // A call counts on two quotas at most.
            grown <= grants + 2 * CLIENTS as u64,
            "one life under load gave up {grown} units; its grants are {grants} at most"
        );
        self.held = held;
        Ok(())
    }

    /// Uses up what is left of the month's quota: all of it but what is held.
    async fn use_up(&mut self) -> anyhow::Result<(u64, u64)> {
        let quota = self.rules.iter().find(|rule| rule.keys == (4..6));
        let quota = quota.context("the month's rule")?.max;
        let oracle_us = self.oracle.clock().us();
        let plan = self.plan(Amount::Requests(quota * 5));
        let report = load::run(plan).await;
        ensure!(report.errors() == 0, "{:?}", report.error_texts());
        self.take(&report, oracle_us)?;
        let all = self.through()?;
        let used = all.iter().filter(|one| (4..6).contains(&one.key)).count();
        ensure!(
            used as u64 + self.held >= quota,
            "only {used} of {quota} were admitted, and {} are held",
            self.held
        );
        Ok((used as u64, quota))
    }

    /// Every record of a forwarded request was seen upstream; what was seen and is not recorded
    /// was in flight at a kill.
    async fn check_records(&self) -> anyhow::Result<u64> {
        let records = self.binary.records_by_id("range=24h").await?;
        self.acknowledged.all_among(&records, 0)?;
        let ids: HashSet<String> = self.oracle.request_ids().into_iter().collect();
        let seen = self.oracle.count();
        ensure!(ids.len() as u64 == seen, "the upstream saw a request twice");
        let outcome = |record: &Value| record.get("outcome").cloned().unwrap_or_default();
        let forwarded = records.iter().filter(|(_, r)| outcome(r) == "forwarded");
        let mut count = 0;
        for (id, record) in forwarded {
            ensure!(ids.contains(id), "recorded, never seen upstream: {record}");
            count += 1;
        }
        let unrecorded = seen.saturating_sub(count);
        let in_flight_max = self.kills * CLIENTS as u64;
        ensure!(unrecorded <= in_flight_max, "{unrecorded} are not recorded");
        Ok(unrecorded)
    }

    fn tell(&self, sync: &str, used: (u64, u64), unrecorded: u64) -> anyhow::Result<()> {
        let mut starts = self.starts.clone();
        starts.sort_unstable();
        let ms = |at: usize| starts.get(at).map_or(0, Duration::as_millis);
        let (median, most) = (ms(starts.len() / 2), ms(starts.len().saturating_sub(1)));
        writeln!(
            std::io::stdout(),
            "figure: kill -9, sync = {sync}: {} cycles, {} kills: {} acknowledged, 0 lost, 0 twice, \
             0 over {} limits by the upstream's count; quota {} of {} used, {} held; {unrecorded} in flight at \
             a kill; ready again after {median} ms (median), {most} ms (longest); 503s: {:?}",
            starts.len(),
            self.kills,
            self.acknowledged.count(),
            self.rules.len(),
            used.0,
            used.1,
            self.held,
            self.unavailable,
        )?;
        ensure!(most <= READY_MS_MAX, "a start took {most} ms");
        Ok(())
    }
}

fn key_of(n: u64) -> usize {
    usize::try_from(n).unwrap_or(0) % KEYS
}

/// Most requests that were surely admitted within one span: sent after its begin, seen before its
/// end. Ordered by when they were sent.
fn most_within(all: &[Through], from_us: u64, span_us: u64) -> usize {
    let begin = all.partition_point(|one| one.sent_us < from_us);
    let all = all.get(begin..).unwrap_or_default();
    let within = |(place, first): (usize, &Through)| {
        let end_us = first.sent_us + span_us;
        let later = all.get(place..).unwrap_or_default().iter();
        let sent_within = later.take_while(|one| one.sent_us < end_us);
        sent_within.filter(|one| one.seen_us < end_us).count()
    };
    all.iter().enumerate().map(within).max().unwrap_or(0)
}

async fn killed_again_and_again(
    cycles: u64,
    sync: &str,
    postgres: Option<&Postgres>,
) -> anyhow::Result<()> {
    let seed = setting("TOLLGATE_SEED", 1);
    writeln!(
        std::io::stdout(),
        "sync = {sync}, {cycles} cycles, TOLLGATE_SEED={seed}"
    )?;
    let journal = format!("sync = \"{sync}\"\n");
    let mut world = World::start(cycles, &journal, seed, postgres).await?;
    for cycle in 0..cycles {
        let done = world.cycle().await;
        done.with_context(|| format!("cycle {cycle} with TOLLGATE_SEED={seed}"))?;
    }
    let used = world.use_up().await?;
    world.check_rules(0)?;
    let unrecorded = world.check_records().await?;
    world.binary.reconcile()?;
    world.tell(sync, used, unrecorded)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_no_limit_is_passed_over_kills() -> anyhow::Result<()> {
    let cycles = setting("TOLLGATE_KILL9_CYCLES", 6).div_ceil(2);
    killed_again_and_again(cycles, "fast", None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_while_answers_wait_for_the_disk() -> anyhow::Result<()> {
    let cycles = setting("TOLLGATE_KILL9_CYCLES", 6) / 2;
    killed_again_and_again(cycles, "durable", None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_holds_with_the_store_on_postgresql() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let cycles = setting("TOLLGATE_KILL9_POSTGRES_CYCLES", 2);
    killed_again_and_again(cycles, "fast", Some(&server)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_order_gives_everything_back() -> anyhow::Result<()> {
    let limit = 500;
    let oracle = Oracle::start()?;
    let catalog = format!(
        "[[api]]\nid = \"widgets\"\nupstreams = [\"{}\"]\npath_prefix = \"/v1\"\n\
         key_prefix = \"hm\"\n[[organization]]\nid = \"acme\"\nname = \"Acme\"\n\
         [[plan]]\nid = \"month\"\nname = \"Month\"\n\
         quota = {{ units = {limit}, every = \"month\", on_exceeded = \"block\" }}\n\
         limits = [{{ max = {limit}, per = \"day\" }}]\n[[subscription]]\nid = \"acme\"\n\
         organization = \"acme\"\napis = [\"widgets\"]\nplan = \"month\"\n",
        oracle.url()
    );
    let setup = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog);
    let mut binary = setup.start().await?;
    let (_, key) = binary.create_key("acme").await?;
    for _ in 0..3 {
        let call = Call::get("/v1/things").key(&key);
        let report = load::run(Plan::new(binary.gateway(), 8, Amount::Requests(100), call)).await;
        assert_eq!(report.count(200), 100, "{:?}", report.error_texts());
        let status = binary.terminate(SOON).await?;
        assert_eq!(status.code(), Some(0), "{}", binary.output());
        binary.restart().await?;
    }
    let call = Call::get("/v1/things").key(&key);
    let report = load::run(Plan::new(binary.gateway(), 8, Amount::Requests(300), call)).await;
    assert_eq!(report.count(200), 200, "{:?}", report.by_status());
    assert_eq!(oracle.count(), limit);
    assert_eq!(binary.quota_used("acme").await?, limit);
    binary.reconcile()?;
    Ok(())
}
