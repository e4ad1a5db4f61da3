//! The catalog of these tests, and where limits stand.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Context;
use serde_json::{Value, json};
use tollgate_testkit::{Binary, Oracle, OracleOptions, Setup};

/// A plan and the subscription of the same id.
pub struct Offer {
    pub id: String,
    /// What the plan says, as TOML.
    pub rules: String,
}

pub fn catalog(upstream: &str, offers: &[Offer]) -> anyhow::Result<String> {
    let mut text = format!(
        "[[api]]\nid = \"widgets\"\nupstreams = [\"{upstream}\"]\npath_prefix = \"/v1\"\n\
         key_prefix = \"hm\"\n[[organization]]\nid = \"acme\"\nname = \"Acme\"\n"
    );
    let zone = zone_where_it_is_noon();
    for Offer { id, rules } in offers {
        write!(
            text,
            "[[plan]]\nid = \"{id}\"\nname = \"{id}\"\n{rules}\n[[subscription]]\nid = \"{id}\"\n\
             organization = \"acme\"\napis = [\"widgets\"]\nplan = \"{id}\"\n\
             time_zone = \"{zone}\"\n"
        )?;
    }
    Ok(text)
}

/// Days and months do not end there while a test runs.
#[expect(
    clippy::disallowed_methods,
    reason = "the tested process lives by the real clock"
)]
pub fn zone_where_it_is_noon() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let hour = since.map_or(0, |since| since.as_secs() / 3_600 % 24);
    // `Etc/GMT+3` is three hours behind.
    match hour.cast_signed() - 12 {
        0 => "UTC".to_owned(),
        behind => format!("Etc/GMT{behind:+}"),
    }
}

pub async fn start(offers: &[Offer]) -> anyhow::Result<(Oracle, Binary)> {
    let oracle = Oracle::start_with(OracleOptions {
        keep_headers: false,
        ..OracleOptions::default()
    })?;
    let catalog = catalog(&oracle.url(), offers)?;
    let binary = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog)
        .start()
        .await?;
    Ok((oracle, binary))
}

/// Used and left of every limit of a key, by name. Asking consumes nothing.
pub async fn standing(
    binary: &Binary,
    key: &str,
) -> anyhow::Result<BTreeMap<String, (u64, Option<u64>)>> {
    let answer = binary
        .post("/api/v1/keys/verify", &json!({ "key": key }))
        .await?;
    let limits = answer.get("limits").and_then(Value::as_array);
    let limits = limits.with_context(|| format!("no limits in {answer}"))?;
    let read = |limit: &Value| {
        let name = limit.get("name")?.as_str()?.to_owned();
        let used = limit.get("used")?.as_u64()?;
        Some((name, (used, limit.get("remaining")?.as_u64())))
    };
    let all: Option<_> = limits.iter().map(read).collect();
    all.with_context(|| format!("a limit out of form in {answer}"))
}

/// What one limit of a key has used.
pub async fn used(binary: &Binary, key: &str, name: &str) -> anyhow::Result<u64> {
    let all = standing(binary, key).await?;
    let found = all.get(name).map(|(used, _)| *used);
    found.with_context(|| format!("no {name} among {all:?}"))
}

pub async fn stats(binary: &Binary, subscription: &str, field: &str) -> anyhow::Result<u64> {
    let path = format!("/api/v1/usage/stats?range=24h&subscription_id={subscription}");
    let stats = binary.get(&path).await?;
    let value = stats.get(field).and_then(Value::as_u64);
    value.with_context(|| format!("no {field} in {stats}"))
}
