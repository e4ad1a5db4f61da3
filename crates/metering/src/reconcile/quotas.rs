//! Used = Σ units + held + in flight, for every quota counter of the last checkpoint.
//!
//! A counter's `settled` holds the units of every event before the checkpoint's position in each
//! journal thread, of every event of earlier lives, and of what the platform knew when the journal
//! was new; the store's period holds those before the marks. What lies between is read from the
//! journal and added or taken off, event by event; then both must be equal, to the unit.
//!
//! What a counter has used is more than that: units of requests in flight, and units `held` because
//! a gateway died before it was written down what became of them. No record tells of either.
//!
//! A counter that is not there is no difference where its period is over, or began after the
//! checkpoint; it is one where the period is live (see `gone`). A counter with units that no event
//! accounts for is one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tollgate_model::{
    By, CounterId, CounterKind, CounterScope, Period, Quota, Sequence, StreamId, Timestamp,
};
use tollgate_store::{PeriodScope, UsageStore};

use super::advice::Ledgers;
use super::entries::each_entry;
use super::{CheckpointView, JournalView, ReconcileLine, gone};
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
    held: u64,
    spent: u64,
}

impl Counter {
    fn in_flight(&self) -> u64 {
        let ended = self.settled.saturating_add(self.held);
        self.spent.saturating_sub(ended)
    }
}

/// What the ledger says of one counter, brought to the checkpoint's position.
pub(super) struct Ledger {
    pub(super) scope: PeriodScope,
    pub(super) start: Timestamp,
    pub(super) units: i128,
}

pub(super) async fn lines(
    store: &dyn UsageStore,
    journal: Arc<dyn JournalView>,
    now: Timestamp,
    period: Option<Period>,
) -> MeteringResult<Vec<ReconcileLine>> {
    const NAME: &str = "quotas";
    let Some((marks, mut ledgers)) = read_periods(store, now).await? else {
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
    let mut lines = compare(&counters, &ledgers, period);
    let known = known_to(&checkpoint);
    let missing = ledgers.iter().filter(|(id, ledger)| {
        !known.contains(id) && period.is_none_or(|period| period.contains(ledger.start))
    });
    let missing = missing.map(|(_, ledger)| ledger);
    lines.extend(gone::line(store, &checkpoint, missing).await?);
    if period.is_none() {
        lines.extend(unaccounted(&counters, &ledgers));
    }
    Ok(lines)
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
    now: Timestamp,
) -> MeteringResult<Option<(Marks, HashMap<CounterId, Ledger>)>> {
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
            // A period that was over and forgotten counts as used up when a clock set back asks
            // for it again; what was really used of it is not known any more.
            let forgotten = state.held >= Quota::UNITS_LARGEST;
            if matches!(state.kind, CounterKind::Quota { .. }) && !forgotten {
                let counter = Counter {
                    shard,
                    settled: state.settled,
                    held: state.held,
                    spent: state.spent,
                };
                counters.insert(state.counter, counter);
            }
        }
    }
    counters
}

/// Every counter of the checkpoint.
fn known_to(checkpoint: &CheckpointView) -> HashSet<CounterId> {
    let states = checkpoint.shards.iter().flat_map(|shard| &shard.counters);
    states.map(|state| state.counter).collect()
}

/// Place of a counter's shard in the checkpoint, also where the counter is not in it.
fn shard_of(checkpoint: &CheckpointView, counter: CounterId) -> usize {
    let shards = checkpoint.shards.len().max(1) as u128;
    usize::try_from(counter.scope() % shards).unwrap_or(0)
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
                let shard = match counters.get(&id) {
                    Some(counter) => counter.shard,
                    None => shard_of(checkpoint, id),
                };
                let at = position(checkpoint, shard, &stream);
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

/// Sums over the counters that were compared.
#[derive(Default)]
struct Sums {
    checked: u64,
    used: u64,
    units: u64,
    held: u64,
    in_flight: u64,
}

fn compare(
    counters: &HashMap<CounterId, Counter>,
    ledgers: &HashMap<CounterId, Ledger>,
    period: Option<Period>,
) -> Vec<ReconcileLine> {
    let mut sums = Sums::default();
    let mut different: BTreeMap<(PeriodScope, Timestamp), ReconcileLine> = BTreeMap::new();
    let inside = |ledger: &Ledger| period.is_none_or(|period| period.contains(ledger.start));
    for (id, ledger) in ledgers.iter().filter(|(_, ledger)| inside(ledger)) {
        let Some(counter) = counters.get(id) else {
            continue;
        };
        let units = u64::try_from(ledger.units.max(0)).unwrap_or(u64::MAX);
        let in_flight = counter.in_flight();
        sums.checked += 1;
        sums.used = sums.used.saturating_add(counter.spent);
        sums.units = sums.units.saturating_add(units);
        sums.held = sums.held.saturating_add(counter.held);
        sums.in_flight = sums.in_flight.saturating_add(in_flight);
        if i128::from(counter.settled) != ledger.units {
            let words = format!(
                "the counter says {} used; {}",
                counter.spent,
                told(units, counter.held, in_flight)
            );
            let name = format!("quota of {}", described(&ledger.scope, ledger.start));
            let right = units.saturating_add(counter.spent.saturating_sub(counter.settled));
            let line = ReconcileLine::compared(name, counter.spent, right, words)
                .advised(Ledgers::CountersAndEvents);
            different.insert((ledger.scope.clone(), ledger.start), line);
        }
    }
    let words = format!(
        "{} quota counters say {} used; {}",
        sums.checked,
        sums.used,
        told(sums.units, sums.held, sums.in_flight)
    );
    let right = sums.units.saturating_add(sums.held);
    let right = right.saturating_add(sums.in_flight);
    let mut summary = ReconcileLine::compared("quotas: used", sums.used, right, words);
    summary.ok &= different.is_empty();
    let summary = summary.advised(Ledgers::CountersAndEvents);
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

/// Units that counters say were settled, of which no event anywhere tells.
fn unaccounted(
    counters: &HashMap<CounterId, Counter>,
    ledgers: &HashMap<CounterId, Ledger>,
) -> Option<ReconcileLine> {
    let alone = counters
        .iter()
        .filter(|(id, counter)| counter.settled > 0 && !ledgers.contains_key(id));
    let (count, units) = alone.fold((0u64, 0u64), |(count, units), (_, counter)| {
        (count + 1, units.saturating_add(counter.settled))
    });
    let words =
        format!("{count} quota counters say {units} units were settled; no event tells of them");
    (count > 0).then(|| {
        ReconcileLine::compared("quotas: unaccounted", units, 0, words)
            .advised(Ledgers::CountersAndEvents)
    })
}

fn told(units: u64, held: u64, in_flight: u64) -> String {
    format!(
        "the ledger says {units} units of events + {held} held without a record (a kill, declared \
         loss, a changed period) + {in_flight} in flight"
    )
}

pub(super) fn described(scope: &PeriodScope, start: Timestamp) -> String {
    match scope {
        PeriodScope::Subscription(id) => format!("subscription {id} from {start}"),
        PeriodScope::Key(id) => format!("key {id} from {start}"),
    }
}
