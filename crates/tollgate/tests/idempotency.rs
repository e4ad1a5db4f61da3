//! `Idempotency-Key` against the real binary: a POST has one effect over `kill -9` and restarts,
//! wherever the kill falls.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tollgate_testkit::client::{self, Call, Reply};
use tollgate_testkit::{Binary, Oracle, Setup, setting};

const CATALOG: &str = r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
[[plan]]
id = "free"
[[organization]]
id = "acme"
[[subscription]]
id = "acme"
organization = "acme"
apis = ["widgets"]
plan = "free"
"#;

fn create(binary: &Binary, round: u64, name: &str) -> Call {
    let body = json!({ "subscription_id": "acme", "name": name });
    Call::post_json("/api/v1/keys", &body)
        .header("Authorization", &format!("Bearer {}", binary.token()))
        .header("Idempotency-Key", &format!("round-{round}"))
}

fn organization(binary: &Binary, round: u64) -> Call {
    let body = json!({ "name": format!("Round {round}") });
    Call::post_json("/api/v1/organizations", &body)
        .header("Authorization", &format!("Bearer {}", binary.token()))
        .header("Idempotency-Key", &format!("organization-{round}"))
}

async fn count(binary: &Binary, path: &str) -> anyhow::Result<usize> {
    let list = binary.get(path).await?;
    Ok(list
        .get("items")
        .and_then(Value::as_array)
        .map_or(0, Vec::len))
}

fn check_repeat(reply: &Reply) -> anyhow::Result<()> {
    let lost = reply.status == 409 && reply.code() == "idempotency_answer_lost";
    let known = reply.status == 201 || lost;
    ensure!(
        known,
        "a repeat was answered {}: {}",
        reply.status,
        reply.text()
    );
    Ok(())
}

/// Fifty calls under one key race; the process is killed at another moment in every round; the
/// repeats after the restart change nothing that was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_under_one_key_has_one_effect_wherever_the_process_is_killed() -> anyhow::Result<()>
{
    let oracle = Oracle::start()?;
    let mut binary = Setup::new(
        env!("CARGO_BIN_EXE_tollgate"),
        &CATALOG.replace("{upstream}", &oracle.url()),
    )
    .start()
    .await?;
    let rounds = setting("TOLLGATE_IDEMPOTENCY_ROUNDS", 4);
    for round in 0..rounds {
        let platform = binary.platform();
        let calls = (0..50).map(|n| {
            let call = match n % 2 {
                0 => create(&binary, round, "k"),
                _ => organization(&binary, round),
            };
            tokio::time::timeout(Duration::from_secs(10), async move {
                client::send(platform, &call).await
            })
        });
        let mut calls = Box::pin(futures_util::future::join_all(calls));
        // The moment of the kill moves by half a millisecond a round.
        let moment = Duration::from_micros(500 * round);
        drop(tokio::time::timeout(moment, &mut calls).await);
        binary.kill9()?;
        for reply in calls.await.into_iter().flatten().flatten() {
            ensure!([201, 409].contains(&reply.status), "{}", reply.text());
        }
        binary.restart().await?;
        for call in [create(&binary, round, "k"), organization(&binary, round)] {
            for _ in 0..2 {
                check_repeat(&client::send(binary.platform(), &call).await?)?;
            }
        }
        let other = client::send(binary.platform(), &create(&binary, round, "other")).await?;
        ensure!(other.code() == "idempotency_mismatch", "{}", other.text());
        let done = usize::try_from(round + 1)?;
        ensure!(count(&binary, "/api/v1/keys?limit=1000").await? == done);
        let organizations = count(&binary, "/api/v1/organizations?limit=1000").await?;
        ensure!(organizations == done + 1, "{organizations} organizations");
    }
    Ok(())
}
