//! Many limits on every request at once, and each in turn is the tightest: as much passes as that
//! one lets through, and no other is charged for what it refused.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tollgate_testkit::{Binary, Oracle};

use crate::setup::{Offer, standing, start, stats};
use crate::storm::Storm;
use crate::{attempts, rounds, say};

/// Units come back to a minute's window after this; a run must end before.
const MINUTE: Duration = Duration::from_secs(60);
/// Keys of each subscription.
const KEYS: u64 = 2;
/// Never reached here; what a second's window does is tested by itself.
const PER_SECOND: u64 = 1_000_000;

/// Every limit that a request has to pass, by the name that answers give it, and whether it is
/// each key's own.
const LIMITS: [(&str, bool); 6] = [
    ("minute-subscription", false),
    ("hour-subscription", false),
    ("month-subscription", false),
    ("minute-key", true),
    ("hour-key", true),
    ("day-key", true),
];

/// All limits, of which `tightest` lets `units` pass.
struct Together {
    tightest: &'static str,
    of_key: bool,
    units: u64,
}

impl Together {
    /// The limit's value: the others never decide.
    fn max(&self, name: &str) -> u64 {
        if name == self.tightest {
            self.units
        } else {
            self.units * (KEYS + 1) + 7
        }
    }

    fn offer(&self) -> Offer {
        let window = |per: &str, by: &str| {
            let max = match per {
                "second" => PER_SECOND,
                _ => self.max(&format!("{per}-{by}")),
            };
            format!("{{ max = {max}, per = \"{per}\", by = \"{by}\" }}")
        };
        let mut windows = Vec::new();
        for by in ["subscription", "key"] {
            for per in ["second", "minute", "hour"] {
                windows.push(window(per, by));
            }
        }
        Offer {
            id: format!("all-{}", self.tightest),
            rules: format!(
                "limits = [{}]\nquota = {{ units = {}, every = \"month\", on_exceeded = \"block\" }}",
                windows.join(", "),
                self.max("month-subscription")
            ),
        }
    }

    async fn keys(&self, binary: &Binary) -> anyhow::Result<Vec<String>> {
        let mut keys = Vec::new();
        for number in 0..KEYS {
            let quota = json!({
                "units": self.max("day-key"), "every": "day", "on_exceeded": "block",
            });
            let body = json!({
                "subscription_id": self.offer().id, "name": format!("key {number}"), "quota": quota,
            });
            keys.push(binary.create_key_with(body).await?.1);
        }
        Ok(keys)
    }

    /// Everything counted what passed, and nothing else.
    async fn check_used(
        &self,
        binary: &Binary,
        keys: &[String],
        each: &[u64],
    ) -> anyhow::Result<()> {
        let id = self.offer().id;
        let total: u64 = each.iter().sum();
        for (key, passed) in keys.iter().zip(each) {
            let all = standing(binary, key).await?;
            for (name, of_key) in LIMITS {
                let (used, remaining) = all.get(name).with_context(|| format!("no {name}"))?;
                let expected = if of_key { *passed } else { total };
                assert_eq!(*used, expected, "{id}: {name} of {all:?}");
                let left = self.max(name) - expected;
                assert_eq!(*remaining, Some(left), "{id}: {name} of {all:?}");
            }
        }
        Ok(())
    }

    async fn run(&self, binary: &Binary, oracle: &Oracle, attempts: u64) -> anyhow::Result<()> {
        let id = self.offer().id;
        let keys = self.keys(binary).await?;
        let before = oracle.count();
        let outcome = Storm::new(binary.gateway(), &keys, 64, attempts)
            .run()
            .await?;
        let each: Vec<u64> = (0..keys.len())
            .map(|key| outcome.passes.iter().filter(|pass| pass.key == key).count() as u64)
            .collect();
        self.check_used(binary, &keys, &each).await?;
        // Refusals alone, once more: nothing moves.
        let again = Storm::new(binary.gateway(), &keys, 16, attempts / 4)
            .run()
            .await?;
        self.check_used(binary, &keys, &each).await?;
        let took = outcome.took + again.took;
        ensure!(
            took < MINUTE,
            "{id}: {took:?} is too slow to judge a minute by"
        );
        let expected = if self.of_key {
            self.units * KEYS
        } else {
            self.units
        };
        let by_status = (&outcome.by_status, &again.by_status);
        assert_eq!(outcome.count(200), expected, "{id}: {by_status:?}");
        assert_eq!(again.count(429), attempts / 4, "{id}: {by_status:?}");
        if self.of_key {
            assert_eq!(each, [self.units; KEYS as usize], "{id}: by key");
        }
        assert_eq!(oracle.count() - before, expected, "{id}: upstream");
        binary.flush().await?;
        assert_eq!(stats(binary, &id, "units").await?, expected, "{id}: units");
        say(&format!(
            "{id}: {} lets {} pass for each, 64 clients, {} attempts, admitted {each:?}, {} attempts/s",
            self.tightest,
            self.units,
            outcome.attempts() + again.attempts(),
            outcome.per_second()
        ))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_limits_at_once_let_pass_what_the_tightest_does_and_refusals_charge_none()
-> anyhow::Result<()> {
    // More would not fit into a minute.
    let each = (attempts() / 30).min(100_000);
    let cases = LIMITS.map(|(tightest, of_key)| Together {
        tightest,
        of_key,
        units: each / 5,
    });
    let offers: Vec<Offer> = cases.iter().map(Together::offer).collect();
    for _ in 0..rounds() {
        let (oracle, binary) = start(&offers).await?;
        for case in &cases {
            case.run(&binary, &oracle, each).await?;
        }
        binary.reconcile()?;
    }
    Ok(())
}
