//! Used = Σ units + in flight, for every quota counter of the last checkpoint.
//!
//! A counter's `settled` holds the units of every event before the checkpoint's position in each
//! journal thread; the store's period holds those before the marks. What lies between is read from
//! the journal and added or taken off, event by event; then both must be equal. `spent` − `settled`
//! is held by requests in flight.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tollgate_model::{
    By, CounterId, CounterKind, CounterScope, Period, Sequence, StreamId, Timestamp,
};
use tollgate_store::{PeriodScope, UsageStore};

use super::entries::each_entry;
use super::{CheckpointView, JournalView, ReconcileLine};
use crate::MeteringResult;
use crate::source::blocking;

/// Periods that began longer ago are over: a year and a month, in microseconds.
const PERIODS_BACK_US: i64 = 400 * 86_400_000_000;
/// So often marks and periods are read again because batches came in between.
const TRIES: u32 = 50;
/// Most lines of differing counters; the rest is counted.
const DIFFERENT_MAX: usize = 20;

/// A quota counter of the checkpoint.
struct Counter {
    /// Place of its shard in the checkpoint.
    shard: usize,
    settled: u64,
    spent: u64,
}

/// What the ledger says of one counter, brought to the checkpoint's position.
struct Ledger {
    scope: PeriodScope,
    start: Timestamp,
    units: i128,
}

pub(super) async fn lines(
    store: &dyn UsageStore,
    journal: Arc<dyn JournalView>,
    now: Timestamp,
    period: Option<Period>,
) -> MeteringResult<Vec<ReconcileLine>> {
    const NAME: &str = "quotas";
    let Some((marks, mut ledgers)) = read_periods(store, &journal, now).await? else {
        return Ok(vec![ReconcileLine::unchecked(
            NAME,
            "batches kept coming in; ask again when there is less traffic",
        )]);
    };
    let source = journal.clone();
    let Some(checkpoint) = blocking(move || source.checkpoint()).await? else {
        return Ok(vec![ReconcileLine::unchecked(
            NAME,
            "the gateway has not written a checkpoint of its counters yet",
        )]);
    };
    let counters = counters_of(&checkpoint);
    bring_to_position(&journal, &checkpoint, &marks, &counters, &mut ledgers).await?;
    if let Some(period) = period {
        ledgers.retain(|_, ledger| period.contains(ledger.start));
    }
    Ok(compare(&counters, &ledgers))
}

/// The counter of a quota's period.
fn counter_of(scope: &PeriodScope, start: Timestamp) -> CounterId {
    let (by, id) = match scope {
        PeriodScope::Subscription(id) => (By::Subscription, id.as_str()),
        PeriodScope::Key(id) => (By::Key, id.as_str()),
    };
    let name = CounterScope {
        by,
        id,
        route: None,
    };
    CounterId::quota(name).in_period(start)
}

type Marks = HashMap<StreamId, Sequence>;

/// Marks and periods of one moment; `None` when batches kept coming in between.
async fn read_periods(
    store: &dyn UsageStore,
    journal: &Arc<dyn JournalView>,
    now: Timestamp,
) -> MeteringResult<Option<(Marks, HashMap<CounterId, Ledger>)>> {
    let node = journal.node();
    for _ in 0..TRIES {
        let before = store.all_high_water_marks().await?;
        let periods = store
            .list_period_units(now.plus_us(-PERIODS_BACK_US))
            .await?;
        if store.all_high_water_marks().await? != before {
            continue;
        }
        let marks = before
            .into_iter()
            .filter(|mark| mark.stream.node == node)
            .map(|mark| (mark.stream, mark.next))
            .collect();
        let ledgers = periods
            .into_iter()
            .map(|period| {
                let ledger = Ledger {
                    units: i128::from(period.units),
                    scope: period.scope,
                    start: period.start,
                };
                (counter_of(&ledger.scope, ledger.start), ledger)
            })
            .collect();
        return Ok(Some((marks, ledgers)));
    }
    Ok(None)
}

fn counters_of(checkpoint: &CheckpointView) -> HashMap<CounterId, Counter> {
    let mut counters = HashMap::new();
    for (shard, snapshot) in checkpoint.shards.iter().enumerate() {
        for state in &snapshot.counters {
            if matches!(state.kind, CounterKind::Quota { .. }) {
                let counter = Counter {
                    shard,
                    settled: state.settled,
                    spent: state.spent,
                };
                counters.insert(state.counter, counter);
            }
        }
    }
    counters
}

/// First sequence of the stream that is not in the shard.
fn position(checkpoint: &CheckpointView, shard: usize, stream: &StreamId) -> Sequence {
    match stream.epoch.cmp(&checkpoint.epoch) {
        std::cmp::Ordering::Less => Sequence(u64::MAX),
        std::cmp::Ordering::Greater => Sequence(0),
        std::cmp::Ordering::Equal => checkpoint
            .shards
            .get(shard)
            .and_then(|snapshot| snapshot.positions.get(usize::from(stream.thread)))
            .copied()
            .unwrap_or_default(),
    }
}

/// Adds events between mark and position, takes off those between position and mark.
async fn bring_to_position(
    journal: &Arc<dyn JournalView>,
    checkpoint: &CheckpointView,
    marks: &Marks,
    counters: &HashMap<CounterId, Counter>,
    ledgers: &mut HashMap<CounterId, Ledger>,
) -> MeteringResult<()> {
    let source = journal.clone();
    let found = blocking(move || source.totals()).await?;
    for end in found.streams {
        let stream = end.stream;
        let mark = marks.get(&stream).copied().unwrap_or_default();
        let positions = 0..checkpoint.shards.len();
        let positions = positions.map(|shard| position(checkpoint, shard, &stream));
        let (low, high) =
            positions.fold((mark, mark), |(low, high), at| (low.min(at), high.max(at)));
        each_entry(journal, &stream, low, high.min(end.end), |entry| {
            for (scope, start) in entry.periods {
                let id = counter_of(&scope, start);
                let Some(counter) = counters.get(&id) else {
                    continue;
                };
                let at = position(checkpoint, counter.shard, &stream);
                let units = i128::from(entry.units);
                let ledger = ledgers.entry(id).or_insert(Ledger {
                    scope,
                    start,
                    units: 0,
                });
                if mark <= entry.sequence && entry.sequence < at {
                    ledger.units += units;
                } else if at <= entry.sequence && entry.sequence < mark {
                    ledger.units -= units;
                }
            }
        })
        .await?;
    }
    Ok(())
}

fn compare(
    counters: &HashMap<CounterId, Counter>,
    ledgers: &HashMap<CounterId, Ledger>,
) -> Vec<ReconcileLine> {
    let (mut used, mut accounted, mut held, mut checked) = (0u64, 0u64, 0u64, 0u64);
    let mut different: BTreeMap<(PeriodScope, Timestamp), ReconcileLine> = BTreeMap::new();
    for (id, ledger) in ledgers {
        // A counter that is not there belongs to a period that is over, or to one that began
        // after the checkpoint.
        let Some(counter) = counters.get(id) else {
            continue;
        };
        let in_flight = counter.spent.saturating_sub(counter.settled);
        let units = u64::try_from(ledger.units.max(0)).unwrap_or(u64::MAX);
        let right = units.saturating_add(in_flight);
        checked += 1;
        used = used.saturating_add(counter.spent);
        accounted = accounted.saturating_add(right);
        held = held.saturating_add(in_flight);
        if counter.spent != right || ledger.units < 0 {
            let words = format!(
                "the counter says {} used; {units} units of events + {in_flight} in flight",
                counter.spent
            );
            let name = format!("quota of {}", described(&ledger.scope, ledger.start));
            let line = ReconcileLine::compared(name, counter.spent, right, words);
            different.insert((ledger.scope.clone(), ledger.start), line);
        }
    }
    let words = format!(
        "{checked} quota counters say {used} used; the ledger says {} units of events + {held} in \
         flight; {} counters belong to no subscription or key",
        accounted.saturating_sub(held),
        (counters.len() as u64).saturating_sub(checked),
    );
    let mut summary = ReconcileLine::compared("quotas: used", used, accounted, words);
    summary.ok &= different.is_empty();
    let more = different.len().saturating_sub(DIFFERENT_MAX);
    let mut lines = vec![summary];
    lines.extend(different.into_values().take(DIFFERENT_MAX));
    if more > 0 {
        let mut line = ReconcileLine::unchecked("quotas: more", format!("{more} more differ"));
        line.ok = false;
        lines.push(line);
    }
    lines
}

fn described(scope: &PeriodScope, start: Timestamp) -> String {
    match scope {
        PeriodScope::Subscription(id) => format!("subscription {id} from {start}"),
        PeriodScope::Key(id) => format!("key {id} from {start}"),
    }
}
