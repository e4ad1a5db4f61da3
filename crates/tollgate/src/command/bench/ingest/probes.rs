//! What is done while events are taken in, to see how long it takes: making keys, asking.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tollgate_lifecycle::SystemIds;
use tollgate_metering::Metering;
use tollgate_metering::question::{Filter, Span, StatsQuestion};
use tollgate_model::{ApiKey, Clock, IdGen, KeyHash, KeyId, KeyState, SubscriptionId, Timestamp};
use tollgate_store::{Effects, KeyWrite, Store};

use super::gateway::Appended;

/// How often a key is made.
const KEY_EVERY: Duration = Duration::from_millis(50);
/// The pause between two questions.
const ASK_PAUSE: Duration = Duration::from_millis(10);
const DAY_US: i64 = 86_400_000_000;

/// How long something took, over many times.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread {
    pub count: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

impl Spread {
    /// Of times that each stand for so many.
    fn of(mut times: Vec<(u64, u64)>) -> Self {
        times.sort_unstable();
        let count: u64 = times.iter().map(|(_, weight)| weight).sum();
        let at = |per_cent: u64| {
            let mut left = (count * per_cent).div_ceil(100);
            let reached = times.iter().find(|(_, weight)| {
                left = left.saturating_sub(*weight);
                left == 0
            });
            reached.map_or(0, |(us, _)| *us)
        };
        Self {
            count,
            p50_us: at(50),
            p99_us: at(99),
            max_us: times.last().map_or(0, |(us, _)| *us),
        }
    }
}

/// `stats` held so many requests in an answer that came at that tick (in microseconds).
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    requests: u64,
    tick_us: u64,
}

/// Makes a key now and then until it is enough.
///
/// # Errors
/// When the store refuses one.
pub async fn make_keys(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    enough: CancellationToken,
) -> anyhow::Result<Spread> {
    let mut times = Vec::new();
    while !enough.is_cancelled() {
        let write = KeyWrite {
            key: key(clock.now().wall),
            expected_version: 0,
            live_keys_max: None,
            effects: Effects::default(),
        };
        let began = clock.now().ticks.0;
        store.write_key(write).await?;
        times.push((clock.now().ticks.0 - began, 1));
        let _enough = tokio::time::timeout(KEY_EVERY, enough.cancelled()).await;
    }
    Ok(Spread::of(times))
}

fn key(now: Timestamp) -> ApiKey {
    let id = KeyId::made(SystemIds.uuid(now));
    let mut hash = [0; 32];
    SystemIds.fill(&mut hash);
    ApiKey {
        family: id.clone(),
        id,
        subscription: SubscriptionId::new("customer-0-widgets"),
        name: "bench".to_owned(),
        hash: KeyHash(hash),
        prefix: "tg".to_owned(),
        last4: "0000".to_owned(),
        state: KeyState::Active,
        test: false,
        scopes: None,
        allowed_addresses: Vec::new(),
        limits: Vec::new(),
        quota: None,
        external_id: None,
        metadata: "{}".to_owned(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
    }
}

/// Asks for the sum of all requests again and again, and once more when it is enough.
///
/// # Errors
/// When a question fails.
pub async fn ask(
    metering: Metering,
    clock: Arc<dyn Clock>,
    enough: CancellationToken,
) -> anyhow::Result<Vec<Seen>> {
    let today = metering.now().floor_to(DAY_US);
    let question = StatsQuestion {
        span: Span::exact(today.plus_us(-DAY_US), today.plus_us(2 * DAY_US))?,
        filter: Filter::default(),
        quota: None,
    };
    let mut seen = Vec::new();
    loop {
        let last = enough.is_cancelled();
        let stats = metering.stats(&question).await?;
        seen.push(Seen {
            requests: stats.requests,
            tick_us: clock.now().ticks.0,
        });
        if last {
            return Ok(seen);
        }
        let _enough = tokio::time::timeout(ASK_PAUSE, enough.cancelled()).await;
    }
}

/// How long events took from their append to the first answer that holds them; `before` requests
/// were there already.
pub fn visible(appended: &[Appended], seen: &[Seen], before: u64) -> Spread {
    let mut answers = seen.iter().peekable();
    let (mut times, mut counted) = (Vec::new(), 0);
    for append in appended {
        while answers
            .peek()
            .is_some_and(|seen| seen.requests < before + append.count)
        {
            answers.next();
        }
        if let Some(answer) = answers.peek() {
            let took = answer.tick_us.saturating_sub(append.tick_us);
            times.push((took, append.count - counted));
            counted = append.count;
        }
    }
    times.retain(|(_, weight)| *weight > 0);
    Spread::of(times)
}
