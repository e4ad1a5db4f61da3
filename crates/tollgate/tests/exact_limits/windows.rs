//! Sliding windows, over several of their lengths.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tollgate_model::Timestamp;

use crate::setup::{Offer, start};
use crate::storm::{Pass, Storm};
use crate::{rounds, say};

const SECOND_US: u64 = 1_000_000;
/// Of a second, by all keys of the subscription, and by each.
const MAX: u64 = 50;
const MAX_OF_KEY: u64 = 40;
/// How many lengths of the window the run takes.
const SPANS: u64 = 4;

/// Most that lie within one span, of times at which each surely had begun and ended.
fn most_within(passes: &[(u64, u64)], span_us: u64) -> u64 {
    let within = |from: u64| {
        let inside = passes
            .iter()
            .filter(|(begun, ended)| *begun >= from && *ended < from + span_us);
        inside.count() as u64
    };
    let counts = passes.iter().map(|(begun, _)| within(*begun));
    counts.max().unwrap_or(0)
}

fn times<'a>(passes: impl Iterator<Item = &'a Pass>) -> Vec<(u64, u64)> {
    passes.map(|pass| (pass.begun_us, pass.ended_us)).collect()
}

/// When each that passed was admitted, as its record says.
fn admitted_at(records: &[Value]) -> anyhow::Result<Vec<(u64, u64)>> {
    let read = |record: &Value| {
        let at = Timestamp::parse(record.get("timestamp")?.as_str()?).ok()?;
        let at_us = u64::try_from(at.0).ok()?;
        Some((at_us, at_us))
    };
    let all: Option<_> = records.iter().map(read).collect();
    all.context("a record without a timestamp")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sliding_window_holds_in_every_interval_and_is_used_to_98_percent() -> anyhow::Result<()>
{
    let offer = Offer {
        id: "burst".to_owned(),
        rules: format!(
            "limits = [{{ max = {MAX}, per = \"second\" }}, \
             {{ max = {MAX_OF_KEY}, per = \"second\", by = \"key\" }}, \
             {{ max = 100000, per = \"minute\" }}, {{ max = 100000, per = \"hour\" }}]\n\
             quota = {{ units = 100000, every = \"month\", on_exceeded = \"block\" }}"
        ),
    };
    let offers = [offer];
    for _ in 0..rounds() {
        let (oracle, binary) = start(&offers).await?;
        let mut keys = Vec::new();
        for _ in 0..2 {
            keys.push(binary.create_key("burst").await?.1);
        }
        let mut storm = Storm::new(binary.gateway(), &keys, 16, u64::MAX);
        // One at a time on each connection: then it is known closely when each was admitted.
        storm.depth = 1;
        let watch = std::sync::Arc::clone(&storm.watch);
        let stop = async {
            // The window begins anew 1/60 late each time; a quarter second for the last to show.
            let spans_us = SPANS * SECOND_US * 61 / 60 + SECOND_US / 4;
            tokio::time::sleep(Duration::from_micros(spans_us)).await;
            watch.stop();
        };
        let (outcome, ()) = tokio::join!(storm.run(), stop);
        let outcome = outcome?;
        let most = most_within(&times(outcome.passes.iter()), SECOND_US);
        assert!(most <= MAX, "{most} within one second");
        for key in 0..keys.len() {
            let of_key = outcome.passes.iter().filter(|pass| pass.key == key);
            let most = most_within(&times(of_key), SECOND_US);
            assert!(most <= MAX_OF_KEY, "{most} of key {key} within one second");
        }
        let records = binary
            .records("subscription_id=burst&outcome=forwarded")
            .await?;
        let recorded = admitted_at(&records)?;
        let most_recorded = most_within(&recorded, SECOND_US);
        assert!(
            most_recorded <= MAX,
            "{most_recorded} recorded in one second"
        );
        let admitted = outcome.count(200);
        assert_eq!(recorded.len() as u64, admitted, "recorded");
        assert_eq!(oracle.count(), admitted, "upstream");
        let (full, attempts) = (MAX * (SPANS + 1), outcome.attempts());
        assert!(
            admitted * 100 >= full * 98,
            "{admitted} of {full} admitted in {SPANS} s and a bit"
        );
        binary.reconcile()?;
        say(&format!(
            "limit {MAX} a second, {MAX_OF_KEY} a key: {attempts} attempts, {admitted} of {full} \
             admitted, at most {most_recorded} in any second"
        ))?;
    }
    Ok(())
}
