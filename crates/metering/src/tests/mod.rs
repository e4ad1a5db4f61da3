//! What the tests share: a clock that is set, a journal in memory, events by numbers.

mod answers;
mod folding;
mod journaled;
mod reconciling;
mod shipping;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::{
    BatchSource, Changed, CheckpointView, Chunk, JournalView, SourceError, StreamEnd, StreamTotals,
};
use proptest::prelude::*;
use tollgate_model::{
    ApiId, Clock, EventId, IdGen, KeyId, Label, NodeId, Now, OrganizationId, Outcome, PlanId,
    RequestId, Sequence, StreamId, SubscriptionId, Ticks, Timestamp, UsageEvent,
};
use tollgate_store::testing::{self, HOUR_US, SECOND_US};
use tollgate_store::{IngestedEvent, OutcomeTotals};

/// The present of tests: 40 minutes past an hour.
const NOW: Timestamp = Timestamp(testing::BEGIN.0 + 40 * 60 * SECOND_US);

struct SetClock(AtomicI64);

impl SetClock {
    fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now.0)))
    }
}

impl Clock for SetClock {
    fn now(&self) -> Now {
        let wall = Timestamp(self.0.load(Ordering::Relaxed));
        Now {
            wall,
            ticks: Ticks(wall.0.unsigned_abs()),
        }
    }
}

#[derive(Default)]
struct CountingIds(AtomicU64);

impl IdGen for CountingIds {
    fn uuid(&self, _at: Timestamp) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }

    fn fill(&self, secret: &mut [u8]) {
        secret.fill(self.0.fetch_add(1, Ordering::Relaxed) as u8);
    }
}

fn node() -> NodeId {
    NodeId::new("node-a")
}

fn stream(epoch: u64, thread: u16) -> StreamId {
    StreamId {
        node: node(),
        epoch,
        thread,
    }
}

/// A journal in memory: `None` stands for an entry that is no event.
#[derive(Default)]
struct FakeJournal {
    streams: Mutex<BTreeMap<StreamId, Vec<Option<UsageEvent>>>>,
    checkpoint: Mutex<Option<CheckpointView>>,
    shipped: Mutex<BTreeMap<StreamId, Sequence>>,
    broken: Mutex<Option<StreamId>>,
    notify: tokio::sync::Notify,
}

impl FakeJournal {
    fn append(&self, stream: &StreamId, entry: Option<UsageEvent>) -> Sequence {
        let mut streams = self.streams.lock().unwrap();
        let entries = streams.entry(stream.clone()).or_default();
        entries.push(entry);
        self.notify.notify_one();
        Sequence(entries.len() as u64 - 1)
    }

    fn ends(&self) -> Vec<StreamEnd> {
        let streams = self.streams.lock().unwrap();
        // In no helpful order.
        streams
            .iter()
            .rev()
            .map(|(stream, entries)| StreamEnd {
                stream: stream.clone(),
                end: Sequence(entries.len() as u64),
            })
            .collect()
    }

    fn chunk(
        &self,
        stream: &StreamId,
        from: Sequence,
        events_max: usize,
    ) -> Result<Chunk, SourceError> {
        if self.broken.lock().unwrap().as_ref() == Some(stream) {
            return Err(SourceError("the disk is on fire".into()));
        }
        let streams = self.streams.lock().unwrap();
        let entries = streams.get(stream).map_or(&[][..], Vec::as_slice);
        let mut chunk = Chunk {
            next: from,
            ..Chunk::default()
        };
        for (place, entry) in entries.iter().enumerate().skip(from.0 as usize) {
            if chunk.events.len() >= events_max {
                break;
            }
            chunk.next = Sequence(place as u64 + 1);
            if let Some(event) = entry {
                chunk.events.push(IngestedEvent {
                    sequence: Sequence(place as u64),
                    event: event.clone(),
                });
            }
        }
        Ok(chunk)
    }
}

impl BatchSource for FakeJournal {
    fn node(&self) -> NodeId {
        node()
    }

    fn streams(&self) -> Result<Vec<StreamEnd>, SourceError> {
        Ok(self.ends())
    }

    fn read(
        &self,
        stream: &StreamId,
        from: Sequence,
        events_max: usize,
        _bytes_max: usize,
    ) -> Result<Chunk, SourceError> {
        self.chunk(stream, from, events_max)
    }

    fn shipped(&self, stream: &StreamId, next: Sequence) -> Result<(), SourceError> {
        let mut shipped = self.shipped.lock().unwrap();
        shipped.insert(stream.clone(), next);
        Ok(())
    }

    fn changed(&self) -> Changed<'_> {
        Box::pin(self.notify.notified())
    }
}

impl JournalView for FakeJournal {
    fn node(&self) -> NodeId {
        node()
    }

    fn totals(&self) -> Result<StreamTotals, SourceError> {
        let mut totals = OutcomeTotals::default();
        for entries in self.streams.lock().unwrap().values() {
            for event in entries.iter().flatten() {
                totals.add(event.outcome, event.units);
            }
        }
        Ok(StreamTotals {
            streams: self.ends(),
            has_unlisted: false,
            totals,
        })
    }

    fn checkpoint(&self) -> Result<Option<CheckpointView>, SourceError> {
        Ok(self.checkpoint.lock().unwrap().clone())
    }

    fn each_event(
        &self,
        stream: &StreamId,
        from: Sequence,
        to: Sequence,
        show: &mut dyn FnMut(&IngestedEvent),
    ) -> Result<u64, SourceError> {
        let chunk = self.chunk(stream, from, usize::MAX)?;
        let inside = chunk.events.iter().filter(|taken| taken.sequence < to);
        inside.for_each(show);
        Ok(chunk.unreadable)
    }
}

/// Small numbers that make an event; every value is one of a few, so that groups are shared.
#[derive(Debug, Clone)]
struct Seed {
    ago_us: i64,
    who: u8,
    what: u8,
    how: u8,
    latency_us: u64,
    units: u64,
}

/// Events of the last `back_us` before [`NOW`].
fn seeds(back_us: i64, count: usize) -> impl Strategy<Value = Vec<Seed>> {
    let seed = (
        1..back_us,
        0u8..12,
        0u8..12,
        0u8..12,
        1u64..5_000_000,
        0u64..5,
    )
        .prop_map(|(ago_us, who, what, how, latency_us, units)| Seed {
            ago_us,
            who,
            what,
            how,
            latency_us,
            units,
        });
    prop::collection::vec(seed, 1..count)
}

/// The `n`th event.
fn event_of(n: usize, seed: &Seed) -> UsageEvent {
    let anonymous = seed.who == 0;
    let named = |prefix: &str, number: u8| format!("{prefix}-{number}");
    let label = |value: u8| Label {
        name: Arc::from("source"),
        value: Arc::from(named("v", value)),
    };
    let key = (!anonymous).then(|| KeyId::new(&named("key", seed.who)));
    let (status, outcome) = match seed.how {
        0 => (429, Outcome::Denied),
        1 => (503, Outcome::Denied),
        2 => (404, Outcome::Forwarded),
        3 => (502, Outcome::UpstreamError),
        4 => (504, Outcome::UpstreamError),
        5 => (499, Outcome::ClientClosed),
        6 => (500, Outcome::Forwarded),
        _ => (200, Outcome::Forwarded),
    };
    let denied = outcome == Outcome::Denied;
    let at = Timestamp(NOW.0 - seed.ago_us);
    UsageEvent {
        id: EventId::Request(RequestId::from_uuid(n as u128)),
        at,
        key_family: key.clone(),
        key,
        subscription: (!anonymous).then(|| SubscriptionId::new(&named("sub", seed.who % 4))),
        organization: (!anonymous).then(|| OrganizationId::new(&named("org", seed.who % 3))),
        api: ApiId::new(&named("api", seed.what % 2)),
        route: Arc::from(named("/r", seed.what % 5)),
        status,
        outcome,
        latency_us: seed.latency_us,
        bytes_in: seed.latency_us % 7,
        bytes_out: seed.latency_us % 1_000,
        address: format!("192.0.2.{}", seed.who).parse().ok(),
        country: (seed.what > 2).then_some([b'A', b'A' + seed.what]),
        units: if denied { 0 } else { seed.units },
        labels: if seed.what > 6 {
            vec![label(seed.who)]
        } else {
            Vec::new()
        },
        plan: Some(PlanId::new(&named("plan", seed.who % 2))),
        test: seed.who == 11,
        count: if denied && seed.who == 3 { 7 } else { 1 },
        subscription_period: (!anonymous).then(|| at.floor_to(24 * HOUR_US)),
        key_period: (seed.who == 5).then(|| at.floor_to(HOUR_US)),
        ..testing::event(0)
    }
}
