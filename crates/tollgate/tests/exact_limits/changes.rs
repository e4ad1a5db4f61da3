//! Limits changed while load runs against them: what was consumed carries over, a raised limit is
//! in force within a second, a lowered one as soon as the change is answered, and no edit resets
//! anything.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use http::Method;
use serde_json::{Value, json};
use tollgate_testkit::client::Call;
use tollgate_testkit::{Binary, Oracle, wait_until};

use crate::setup::{Offer, catalog, start, used, zone_where_it_is_noon};
use crate::storm::{Outcome, Storm, Watch};
use crate::{rounds, say};

/// A raised limit is in force within this.
const IN_FORCE: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(20);
/// The limit at first.
const FIRST: u64 = 400;
/// Far beyond what can pass while it is in force.
const WIDE: u64 = 1_000_000;

#[derive(Debug, Clone, Copy)]
enum Kind {
    Window,
    Quota,
}

/// Who owns the plan, hence how it is changed.
#[derive(Debug, Clone, Copy)]
enum Way {
    Apply,
    Api,
}

/// A subscription whose limit is changed.
struct Edited<'a> {
    binary: &'a Binary,
    upstream: String,
    kind: Kind,
    way: Way,
}

fn offer(kind: Kind, units: u64) -> Offer {
    let rules = match kind {
        Kind::Window => format!("limits = [{{ max = {units}, per = \"hour\" }}]"),
        Kind::Quota => {
            format!("quota = {{ units = {units}, every = \"month\", on_exceeded = \"block\" }}")
        }
    };
    Offer {
        id: format!("declared-{kind:?}").to_lowercase(),
        rules,
    }
}

impl Edited<'_> {
    fn id(&self) -> String {
        match self.way {
            Way::Apply => offer(self.kind, 0).id,
            Way::Api => format!("made-{:?}", self.kind).to_lowercase(),
        }
    }

    fn counter(&self) -> &'static str {
        match self.kind {
            Kind::Window => "hour-subscription",
            Kind::Quota => "month-subscription",
        }
    }

    fn rules(&self, units: u64) -> Value {
        match self.kind {
            Kind::Window => json!({"limits": [{"max": units, "per": "hour"}]}),
            Kind::Quota => {
                json!({"quota": {"units": units, "every": "month", "on_exceeded": "block"}})
            }
        }
    }

    /// Makes plan and subscription, where no file declares them.
    async fn make(&self) -> anyhow::Result<()> {
        if matches!(self.way, Way::Apply) {
            return Ok(());
        }
        let id = self.id();
        let mut plan = self.rules(FIRST);
        if let Some(plan) = plan.as_object_mut() {
            plan.insert("id".to_owned(), json!(id));
            plan.insert("name".to_owned(), json!(id));
        }
        self.binary.post("/api/v1/plans", &plan).await?;
        let subscription = json!({
            "id": id, "organization": "acme", "apis": ["widgets"], "plan": id,
            "time_zone": zone_where_it_is_noon(),
        });
        let path = "/api/v1/subscriptions";
        self.binary.post(path, &subscription).await.map(drop)
    }

    /// Changes the limit; returns when the change is answered.
    async fn set(&self, units: u64) -> anyhow::Result<()> {
        match self.way {
            Way::Apply => {
                let offers = [Kind::Window, Kind::Quota].map(|kind| offer(kind, units));
                let text = catalog(&self.upstream, &offers)?;
                std::fs::write(self.binary.folder().join("changed.toml"), text)?;
                self.binary.run_well(&["apply", "-f", "changed.toml"])?;
            }
            Way::Api => {
                let path = format!("/api/v1/plans/{}", self.id());
                let mut call = Call::post_json(&path, &self.rules(units));
                call.method = Method::PATCH;
                let reply = self.binary.ask(call).await?;
                ensure!(reply.status == 200, "{} {}", reply.status, reply.text());
            }
        }
        Ok(())
    }

    /// Waits until so many have passed; answers how long that took.
    async fn passes(
        &self,
        watch: &Watch,
        count: u64,
        within: Duration,
    ) -> anyhow::Result<Duration> {
        let what = format!("{}: {count} have passed", self.id());
        wait_until(&what, within, async || watch.admitted() >= count).await
    }

    /// A good many more attempts are refused, all of them, and `total` is what was used.
    async fn holds_at(&self, watch: &Watch, key: &str, total: u64) -> anyhow::Result<()> {
        let more = watch.answered() + 2_000;
        wait_until("more attempts", SOON, async || watch.answered() >= more).await?;
        let id = self.id();
        assert_eq!(watch.admitted(), total, "{id}: admitted");
        let used = used(self.binary, key, self.counter()).await?;
        assert_eq!(used, total, "{id}: used");
        Ok(())
    }

    /// Edits the limit up and down under load; answers what passed in all, when the last change
    /// (downwards) was answered, and how long the raise took to show.
    async fn edit(&self, watch: &Watch, key: &str) -> anyhow::Result<(u64, u64, Duration)> {
        self.passes(watch, FIRST, SOON).await?;
        self.holds_at(watch, key, FIRST).await?;
        // Raised: the rest is let through, what was consumed carries over.
        self.set(2 * FIRST).await?;
        let raised = self.passes(watch, FIRST + 1, IN_FORCE).await?;
        self.passes(watch, 2 * FIRST, SOON).await?;
        self.holds_at(watch, key, 2 * FIRST).await?;
        // Lowered below what was consumed, and raised by one.
        self.set(FIRST / 2).await?;
        self.holds_at(watch, key, 2 * FIRST).await?;
        self.set(2 * FIRST + 1).await?;
        self.passes(watch, 2 * FIRST + 1, IN_FORCE).await?;
        self.holds_at(watch, key, 2 * FIRST + 1).await?;
        // Wide open, and lowered in full flow.
        self.set(WIDE).await?;
        self.passes(watch, 4 * FIRST, SOON).await?;
        self.set(FIRST).await?;
        let lowered_us = watch.clock.us();
        let more = watch.answered() + 2_000;
        wait_until("more attempts", SOON, async || watch.answered() >= more).await?;
        let total = watch.admitted();
        self.holds_at(watch, key, total).await?;
        Ok((total, lowered_us, raised))
    }

    async fn run(&self, oracle: &Oracle) -> anyhow::Result<()> {
        self.make().await?;
        let id = self.id();
        let (_, key) = self.binary.create_key(&id).await?;
        let before = oracle.count();
        let keys = [key.clone()];
        let mut storm = Storm::new(self.binary.gateway(), &keys, 32, u64::MAX);
        storm.depth = 1;
        let watch = Arc::clone(&storm.watch);
        let edits = async {
            let edited = self.edit(&watch, &key).await;
            watch.stop();
            edited
        };
        let (outcome, edited) = tokio::join!(storm.run(), edits);
        let (outcome, (total, lowered_us, raised)): (Outcome, _) = (outcome?, edited?);
        let late = outcome
            .passes
            .iter()
            .filter(|pass| pass.begun_us > lowered_us);
        assert_eq!(late.count(), 0, "{id}: passed after the limit was lowered");
        assert!(
            total < WIDE,
            "{id}: {total} passed, it was not lowered in flow"
        );
        assert_eq!(outcome.count(200), total, "{id}: {:?}", outcome.by_status);
        assert_eq!(oracle.count() - before, total, "{id}: upstream");
        let refused = outcome.attempts() - total;
        assert_eq!(outcome.count(429), refused, "{id}: {:?}", outcome.by_status);
        say(&format!(
            "{id}: limit {FIRST}, {}, {}, {}, {WIDE}, {FIRST} under load: {} attempts, {total} \
             admitted, used {total}; the raise showed after {} ms, none passed after the last change",
            2 * FIRST,
            FIRST / 2,
            2 * FIRST + 1,
            outcome.attempts(),
            raised.as_millis()
        ))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_changed_under_load_holds_at_once_and_keeps_what_was_consumed() -> anyhow::Result<()>
{
    let offers = [Kind::Window, Kind::Quota].map(|kind| offer(kind, FIRST));
    for _ in 0..rounds() {
        let (oracle, binary) = start(&offers).await?;
        for way in [Way::Apply, Way::Api] {
            for kind in [Kind::Window, Kind::Quota] {
                let edited = Edited {
                    binary: &binary,
                    upstream: oracle.url(),
                    kind,
                    way,
                };
                edited.run(&oracle).await?;
            }
        }
        binary.reconcile()?;
    }
    Ok(())
}
