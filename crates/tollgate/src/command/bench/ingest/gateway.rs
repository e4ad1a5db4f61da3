//! The gateway's side: events go into a journal as if requests had been answered.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tollgate_journal::{
    DiskFilesystem, EVENT_ROOM_BYTES, Entry, Journal, JournalOptions, Reader, Writer,
};
use tollgate_lifecycle::SystemIds;
use tollgate_model::{
    By, Charge, Clock, CounterId, CounterKind, CounterScope, NodeId, Per, Timestamp, UsageEvent,
};

use super::mix::{Mix, Traffic};

/// Threads of the gateway.
const THREADS: u16 = 2;
/// The rate at which what waits is said to have come in, in events a second.
const CAME_IN_AT: i64 = 60_000;
/// How often what is due is appended.
const TICK: Duration = Duration::from_millis(2);
/// How long to wait where the journal takes no more before its next sync.
const FULL_WAIT: Duration = Duration::from_millis(5);
/// Most bytes of the journal.
const JOURNAL_BYTES_MAX: u64 = 32 << 30;

/// So many events had been appended at that tick (in microseconds).
#[derive(Debug, Clone, Copy)]
pub struct Appended {
    pub count: u64,
    pub tick_us: u64,
}

pub struct Gateway {
    journal: Journal,
    writers: Vec<Writer>,
    traffic: Traffic,
    clock: Arc<dyn Clock>,
}

impl Gateway {
    /// A new journal below `folder`.
    ///
    /// # Errors
    /// When it cannot be made there.
    pub fn open(mix: Mix, folder: &Path, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let options = JournalOptions {
            disk_bytes_max: JOURNAL_BYTES_MAX,
            ..JournalOptions::new(folder.join("journal"))
        };
        let files = Arc::new(DiskFilesystem);
        let (journal, _) = Journal::open(files, options, THREADS, None, clock.clone(), &SystemIds)?;
        Ok(Self {
            writers: (0..THREADS).filter_map(|n| journal.writer(n)).collect(),
            journal,
            traffic: Traffic::new(mix),
            clock: clock.clone(),
        })
    }

    pub fn node(&self) -> NodeId {
        self.journal.node().clone()
    }

    pub fn reader(&self) -> Reader {
        self.journal.reader()
    }

    /// Appends events that came in before now, on every thread in turn.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn fill(&mut self, events: u64) -> anyhow::Result<()> {
        let now = self.clock.now().wall;
        for n in 0..events {
            let ago = i64::try_from(events - n)? * 1_000_000 / CAME_IN_AT;
            let thread = usize::try_from(n % u64::from(THREADS))?;
            self.append(thread, now.plus_us(-ago)).await?;
        }
        Ok(())
    }

    /// Appends at a steady rate, on one thread, so that what is visible can be told by its count.
    ///
    /// # Errors
    /// When the journal fails.
    pub async fn keep_up(&mut self, rate: u64, run_for: Duration) -> anyhow::Result<Vec<Appended>> {
        let began_us = self.clock.now().ticks.0;
        let mut ticks = tokio::time::interval(TICK);
        let (mut count, mut appended) = (0, Vec::new());
        loop {
            ticks.tick().await;
            let now = self.clock.now();
            let passed_us = now.ticks.0 - began_us;
            while count < rate * passed_us / 1_000_000 {
                self.append(0, now.wall).await?;
                count += 1;
            }
            appended.push(Appended {
                count,
                tick_us: now.ticks.0,
            });
            if u128::from(passed_us) >= run_for.as_micros() {
                return Ok(appended);
            }
        }
    }

    async fn append(&mut self, thread: usize, at: Timestamp) -> anyhow::Result<()> {
        let event = self.traffic.next(at, &SystemIds);
        let charges = charges(&event, self.clock.now().ticks);
        let writer = self.writers.get_mut(thread).context("no such thread")?;
        let room = loop {
            match writer.reserve(EVENT_ROOM_BYTES) {
                Ok(room) => break room,
                // What is not yet on disk is bounded.
                Err(_) => tokio::time::sleep(FULL_WAIT).await,
            }
        };
        writer.append(room, &Entry::Event { event, charges })?;
        Ok(())
    }
}

/// A window and a quota.
fn charges(event: &UsageEvent, at: tollgate_model::Ticks) -> Vec<Charge> {
    let scope = |id| CounterScope {
        by: By::Subscription,
        id,
        route: None,
    };
    let (Some(id), Some(start)) = (&event.subscription, event.subscription_period) else {
        return Vec::new();
    };
    let quota = CounterKind::Quota {
        ends_at: start.plus_us(30 * 86_400_000_000),
    };
    let window = CounterKind::Window(Per::Minute);
    let counters = [
        (CounterId::window(scope(id.as_str()), Per::Minute), window),
        (CounterId::quota(scope(id.as_str())).in_period(start), quota),
    ];
    let charge = |(counter, kind)| Charge {
        counter,
        kind,
        reserved: event.units,
        kept: event.units,
        at,
        round: 1,
    };
    counters
        .into_iter()
        .filter(|_| event.units > 0)
        .map(charge)
        .collect()
}
