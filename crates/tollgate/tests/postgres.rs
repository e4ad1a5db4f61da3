//! The real binary with its store on a real PostgreSQL: what SQLite's tests show holds here too,
//! and a database that dies, comes back or only reads for a while is the journal's affair, not the
//! callers'.
//!
//! `TOLLGATE_POSTGRES_FAULTS` sets how often the database goes away under load (3).

use std::io::Write as _;
use std::process::Output;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, ensure};
use tollgate_testkit::client::Call;
use tollgate_testkit::load::{self, Amount, Plan};
use tollgate_testkit::{
    AcknowledgedSet, Binary, Elapsed, Oracle, OracleOptions, Postgres, Setup, setting, wait_until,
};

/// Units of the month's quota of `metered`.
const QUOTA: u64 = 150;
const SOON: Duration = Duration::from_secs(20);
/// Requests a second while the database goes away; the load is stopped, or ends after so long.
const RATE: u64 = 500;
const LOAD_LONGEST: Duration = Duration::from_secs(120);
/// Longest time from a database that writes again to all events in it.
const RECOVERED_WITHIN: Duration = Duration::from_secs(10);

fn catalog(upstream: &str) -> String {
    format!(
        "[[api]]\nid = \"widgets\"\nupstreams = [\"{upstream}\"]\npath_prefix = \"/v1\"\n\
         key_prefix = \"hm\"\n[[organization]]\nid = \"acme\"\nname = \"Acme\"\n\
         [[plan]]\nid = \"metered\"\nname = \"Metered\"\n\
         quota = {{ units = {QUOTA}, every = \"month\", on_exceeded = \"block\" }}\n\
         [[plan]]\nid = \"large\"\nname = \"Large\"\n\
         quota = {{ units = 10000000, every = \"month\", on_exceeded = \"block\" }}\n\
         [[subscription]]\nid = \"metered\"\norganization = \"acme\"\napis = [\"widgets\"]\n\
         plan = \"metered\"\n\
         [[subscription]]\nid = \"large\"\norganization = \"acme\"\napis = [\"widgets\"]\n\
         plan = \"large\"\n"
    )
}

async fn start(server: &Postgres) -> anyhow::Result<(Oracle, Binary)> {
    let oracle = Oracle::start_with(OracleOptions {
        keep_headers: false,
        ..OracleOptions::default()
    })?;
    let setup = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog(&oracle.url()));
    let binary = setup.on(server)?.start().await?;
    Ok((oracle, binary))
}

fn both_outputs(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// From the first key to the proof, over a restart: the quota lets exactly so much through, the
/// upstream's count equals the records, and every command works and keeps the password to itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_and_counts_exactly_on_postgresql() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let (oracle, mut binary) = start(&server).await?;
    let (_, key) = binary.create_key("metered").await?;
    let call = || Call::get("/v1/things").key(&key);
    for expected in [100, QUOTA - 100] {
        let report = load::run(Plan::new(
            binary.gateway(),
            16,
            Amount::Requests(100),
            call(),
        ))
        .await;
        assert_eq!(report.count(200), expected, "{:?}", report.error_texts());
        assert_eq!(report.count(200) + report.count(429), 100);
        assert_eq!(binary.terminate(SOON).await?.code(), Some(0));
        binary.restart().await?;
    }
    let records = binary.records("outcome=forwarded&range=24h").await?;
    let mut recorded: Vec<String> = records
        .iter()
        .filter_map(|record| Some(record.get("id")?.as_str()?.to_owned()))
        .collect();
    let mut seen = oracle.request_ids();
    recorded.sort_unstable();
    seen.sort_unstable();
    assert_eq!(recorded, seen);
    assert_eq!(oracle.count(), QUOTA);
    assert_eq!(binary.quota_used("metered").await?, QUOTA);
    binary.reconcile()?;
    for arguments in [
        ["store", "migrate"].as_slice(),
        &["store", "migrate", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["config", "check", "--json"],
        &["reconcile", "--json"],
    ] {
        let output = binary.run(arguments)?;
        let said = both_outputs(&output);
        ensure!(output.status.success(), "{arguments:?}: {said}");
        ensure!(!said.contains(server.password()), "{arguments:?}: {said}");
    }
    let said = binary.run_well(&["doctor"])?;
    let shown = format!("postgres://tollgate@{}/test_0 answers", server.address());
    assert!(said.contains(&shown), "{said}");
    Ok(())
}

/// Nothing starts on a database that cannot be had, and the reason says what to do.
#[tokio::test]
async fn a_database_that_cannot_be_had_is_told_with_what_to_do() -> anyhow::Result<()> {
    let mut server = Postgres::start().await?;
    let (_oracle, mut binary) = start(&server).await?;
    binary.terminate(SOON).await?;
    let good = server.url("test_0");
    let newer = "INSERT INTO schema_migrations VALUES (99, 'later', 'x')";
    let cases = [
        (
            good.replace(server.password(), "wrong-pass-77"),
            "check user and password",
        ),
        (server.url("nowhere"), "make the database first"),
        (
            format!("{good}?sslmode=allow"),
            "sslmode=allow is not supported",
        ),
        (
            good.clone(),
            "a newer version of Tollgate has migrated this database to schema 3",
        ),
        (good, "is PostgreSQL running there"),
    ];
    for (n, (url, advice)) in cases.into_iter().enumerate() {
        match n {
            3 => drop(server.sql("test_0", newer)?),
            4 => server.stop()?,
            _ => {}
        }
        binary.setup_mut().environment = vec![("TOLLGATE__STORE__URL".to_owned(), url)];
        for command in [["serve"].as_slice(), &["doctor"], &["store", "migrate"]] {
            let output = binary.run(command)?;
            let said = both_outputs(&output);
            ensure!(!output.status.success(), "{command:?}: {said}");
            ensure!(said.contains(advice), "{command:?}: {said}");
            for secret in [server.password(), "wrong-pass-77"] {
                ensure!(!said.contains(secret), "{command:?}: {said}");
            }
        }
    }
    Ok(())
}

/// The database is killed, ended in a hurry and switched to read only, in turn, under load: every
/// call is answered as before, the gateway stays ready, and soon after the database writes again
/// all events are in it, once, without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_under_load_disturbs_nobody() -> anyhow::Result<()> {
    let mut server = Postgres::start().await?;
    let (_oracle, binary) = start(&server).await?;
    let (_, key) = binary.create_key("large").await?;
    let mut acknowledged = AcknowledgedSet::default();
    for fault in 0..setting("TOLLGATE_POSTGRES_FAULTS", 3) {
        let call = Call::get("/v1/things").key(&key);
        let amount = Amount::Rate {
            per_second: RATE,
            duration: LOAD_LONGEST,
        };
        let plan = Plan::new(binary.gateway(), 16, amount, call);
        let (answered, stop) = (plan.acknowledged.clone(), plan.stop.clone());
        let running = tokio::task::JoinSet::from_iter([load::run(plan)]);
        let more = async |n: u64| {
            let from = answered.load(Ordering::SeqCst);
            wait_until("answers come", SOON, async || {
                answered.load(Ordering::SeqCst) >= from + n
            })
            .await
        };
        more(RATE / 2).await?;
        let how = go_away(&mut server, fault)?;
        more(RATE).await?;
        ensure!(is_ready(&binary).await, "{how}: the gateway is not ready");
        come_back(&mut server, fault).await?;
        let since = Elapsed::start();
        wait_until("events arrive again", RECOVERED_WITHIN, async || {
            binary.flush().await.is_ok()
        })
        .await
        .with_context(|| how.to_owned())?;
        let recovered = since.so_far();
        stop.store(true, Ordering::SeqCst);
        let report = running.join_all().await.pop().context("one run of load")?;
        ensure!(report.errors() == 0, "{how}: {:?}", report.error_texts());
        let by_status = report.by_status();
        ensure!(by_status.keys().eq([&200]), "{how}: {by_status:?}");
        acknowledged.take(&report)?;
        let latencies = report.latencies();
        writeln!(
            std::io::stdout(),
            "figure: PostgreSQL {how} under load: {} answers, 0 errors, p99 {} us, events arrive \
             again after {} ms",
            report.count(200),
            latencies.p99_us,
            recovered.as_millis()
        )?;
    }
    let records = binary.records_by_id("range=24h").await?;
    acknowledged.all_among(&records, 0)?;
    ensure!(
        records.len() as u64 == acknowledged.count(),
        "records of nobody"
    );
    binary.reconcile().map(drop)
}

async fn is_ready(binary: &Binary) -> bool {
    let answer = tollgate_testkit::client::send(binary.health(), &Call::get("/readyz")).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

fn go_away(server: &mut Postgres, fault: u64) -> anyhow::Result<&'static str> {
    match fault % 3 {
        0 => server.kill9().map(|()| "killed"),
        1 => switch(server, "on").map(|()| "switched to read only"),
        _ => server.stop().map(|()| "stopped"),
    }
}

async fn come_back(server: &mut Postgres, fault: u64) -> anyhow::Result<()> {
    match fault % 3 {
        1 => switch(server, "off"),
        _ => server.restart().await,
    }
}

fn switch(server: &Postgres, read_only: &str) -> anyhow::Result<()> {
    let text = format!("ALTER SYSTEM SET default_transaction_read_only = {read_only}");
    server.sql("postgres", &text)?;
    server.sql("postgres", "SELECT pg_reload_conf()").map(drop)
}
