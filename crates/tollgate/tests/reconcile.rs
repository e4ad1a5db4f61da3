//! Counters, journal, store and proof together, on real files: whatever is killed, stopped, shipped,
//! forgotten or lost, `reconcile` reads the folder beside the process that writes it and finds that
//! quota counters and records agree to the unit.
//!
//! `TOLLGATE_SEED` sets the first run (1), `TOLLGATE_RESTART_RUNS` how many there are (12).

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tollgate_admission::{Applicable, Enforcement, Length, LimitName, Rule};
use tollgate_counters::{
    Checkpointed, GrantLog, GrantRefused, Logged, MemoryCounters, Position, Reservation, SHARDS,
};
use tollgate_journal::{
    CounterChange, DiskFilesystem, EVENT_ROOM_BYTES, Entry, Folder, Journal, JournalOptions,
    Recovered, Writer,
};
use tollgate_metering::{
    FolderJournal, JournalView, LocalJournal, ReconcileOptions, ReconcileReport, ShipOptions,
    Shipper, reconcile,
};
use tollgate_model::{
    By, Charge, Clock, CounterId, CounterKind, CounterScope, EventId, Every, KeyId, Mark, Now,
    Outcome, Period, RequestId, Sequence, SubscriptionId, Timestamp, UsageEvent,
};
use tollgate_store::{MemoryStore, PeriodScope, UsageStore, testing};
use tollgate_testkit::{ManualClock, SeededIds, setting};

const HOUR_US: i64 = 3_600_000_000;
const THREADS: u16 = 2;
/// Quotas renew every hour here, so that periods end while the test runs.
const QUOTA_UNITS: u64 = 2_000;

struct Grants<'a>(&'a mut Writer);

impl GrantLog for Grants<'_> {
    fn grant(&mut self, marks: &[Mark]) -> Result<(), GrantRefused> {
        self.0
            .append_grant(marks)
            .map(drop)
            .map_err(|_| GrantRefused)
    }
}

/// A request that has been admitted.
struct Open {
    reservation: Reservation,
    event: UsageEvent,
}

/// One life of a gateway.
struct Life {
    folder: TempDir,
    journal: Journal,
    writers: Vec<Writer>,
    counters: MemoryCounters,
    open: Vec<Open>,
}

struct World {
    clock: Arc<ManualClock>,
    ids: Arc<SeededIds>,
    store: Arc<dyn UsageStore>,
    life: Life,
    requests: u128,
    /// The most units that were seen held.
    held: u64,
}

fn period_of(at: Timestamp) -> Period {
    let start = at.floor_to(HOUR_US);
    Period {
        start,
        end: start.plus_us(HOUR_US),
    }
}

fn counter_of(scope: &PeriodScope, start: Timestamp) -> CounterId {
    let (by, id) = match scope {
        PeriodScope::Subscription(id) => (By::Subscription, id.as_str()),
        PeriodScope::Key(id) => (By::Key, id.as_str()),
    };
    CounterId::quota(CounterScope {
        by,
        id,
        route: None,
    })
    .in_period(start)
}

fn quota(scope: &PeriodScope, at: Timestamp) -> Applicable {
    let period = period_of(at);
    let by = match scope {
        PeriodScope::Subscription(_) => By::Subscription,
        PeriodScope::Key(_) => By::Key,
    };
    Applicable {
        counter: counter_of(scope, period.start),
        name: LimitName {
            length: Length::Period(Every::Day),
            by,
            on_route: false,
        },
        rule: Rule::Quota {
            every: Every::Day,
            units: Some(QUOTA_UNITS),
            refuse_at: Some(QUOTA_UNITS),
            period,
        },
    }
}

/// As a gateway starts: counters from the journal, broken-off requests recorded, a checkpoint.
fn start(folder: TempDir, clock: &Arc<ManualClock>, ids: &SeededIds) -> anyhow::Result<Life> {
    let options = JournalOptions {
        segment_bytes: 16 << 10,
        keep_us: 0,
        sync_every_us: 500,
        ..JournalOptions::new(folder.path())
    };
    let (journal, mut recovered) = Journal::open(
        Arc::new(DiskFilesystem),
        options,
        THREADS,
        Some("node-a"),
        clock.clone(),
        ids,
    )?;
    ensure!(recovered.complete, "{:?}", recovered.damage);
    let writers: anyhow::Result<Vec<Writer>> = (0..THREADS)
        .map(|thread| journal.writer(thread).context("taken"))
        .collect();
    let mut life = Life {
        folder,
        journal,
        writers: writers?,
        counters: MemoryCounters::new(),
        open: Vec::new(),
    };
    life.restore(&recovered, clock.now());
    for one in std::mem::take(&mut recovered.unfinished) {
        life.append(
            0,
            &Entry::Event {
                event: one.event,
                charges: one.charges,
            },
        )?;
    }
    life.checkpoint(clock.now())?;
    Ok(life)
}

impl Life {
    fn restore(&self, recovered: &Recovered, now: Now) {
        let mut entries: Vec<(Position, Logged)> = Vec::new();
        for entry in &recovered.entries {
            let position = Position {
                epoch: entry.epoch,
                thread: entry.thread,
                sequence: entry.sequence,
            };
            let logged = match entry.change {
                CounterChange::Mark(mark) => Logged::Mark(mark),
                CounterChange::Charge(charge) => Logged::Charge(charge),
            };
            entries.push((position, logged));
        }
        // Their events are appended to this life's stream in a moment.
        let position = Position {
            epoch: recovered.epoch,
            thread: 0,
            sequence: Sequence(0),
        };
        for charge in recovered.unfinished.iter().flat_map(|one| &one.charges) {
            entries.push((position, Logged::Charge(*charge)));
        }
        let checkpoint = recovered.checkpoint.as_ref();
        let checkpoint = checkpoint.map(|c| Checkpointed {
            epoch: c.epoch,
            shards: &c.shards,
        });
        self.counters.restore(checkpoint, &entries, now);
    }

    fn append(&mut self, thread: usize, entry: &Entry) -> anyhow::Result<()> {
        let writer = self.writers.get_mut(thread).context("no such thread")?;
        let room = writer.reserve(EVENT_ROOM_BYTES)?;
        writer.append(room, entry)?;
        Ok(())
    }

    fn checkpoint(&self, now: Now) -> anyhow::Result<()> {
        let next: Vec<Sequence> = self.writers.iter().map(Writer::next_sequence).collect();
        let shards: Vec<_> = (0..SHARDS)
            .filter_map(|shard| {
                self.counters
                    .snapshot_shard(shard, now, &mut || next.clone())
            })
            .collect();
        self.journal.write_checkpoint(now, &shards)?;
        Ok(())
    }

    fn end(&mut self, thread: usize, which: usize, kept: u64) -> anyhow::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let Open {
            reservation,
            mut event,
        } = self.open.swap_remove(which % self.open.len());
        let mut charges: Vec<Charge> = Vec::new();
        let take = &mut |all: &[Charge]| charges.extend_from_slice(all);
        self.counters.settle(reservation, kept, kept, take);
        event.units = charges.first().map_or(0, |charge| charge.kept);
        self.append(thread, &Entry::Event { event, charges })
    }

    /// A request that takes long says what it has come to.
    fn progress(&mut self, thread: usize, which: usize) -> anyhow::Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let place = which % self.open.len();
        let Some(open) = self.open.get(place) else {
            return Ok(());
        };
        let charges = open.reservation.charges().collect::<Vec<_>>();
        let units = charges.first().map_or(0, |charge| charge.reserved);
        let event = UsageEvent {
            units,
            outcome: Outcome::Interrupted,
            ..open.event.clone()
        };
        self.append(thread, &Entry::Progress { event, charges })
    }
}

impl World {
    fn new(seed: u64) -> anyhow::Result<Self> {
        let clock = Arc::new(ManualClock::at(testing::BEGIN.plus_us(HOUR_US / 3)));
        let ids = Arc::new(SeededIds::new(seed));
        let life = start(tempfile::tempdir()?, &clock, &ids)?;
        let store: Arc<dyn UsageStore> = Arc::new(MemoryStore::default());
        Ok(Self {
            clock,
            ids,
            store,
            life,
            requests: 0,
            held: 0,
        })
    }

    fn pick(&self, below: u64) -> u64 {
        self.ids.next_u64() % below
    }

    async fn step(&mut self) -> anyhow::Result<()> {
        let (thread, which) = (self.pick(2) as usize, self.pick(1_000) as usize);
        self.clock.advance_us(self.pick(2_000_000));
        match self.pick(100) {
            0..45 => self.request(thread),
            45..70 => {
                let kept = self.pick(12);
                self.life.end(thread, which, kept)
            }
            70..76 => self.life.progress(thread, which),
            76..84 => self.life.checkpoint(self.clock.now()),
            84..90 => self.ship(1 + self.pick(20) as usize).await,
            90..92 => {
                self.clock.advance_us(self.pick(2 * HOUR_US as u64));
                self.life.counters.evict(self.clock.now());
                Ok(())
            }
            92..94 => {
                self.life.journal.purge();
                Ok(())
            }
            94..98 => self.kill().await,
            98 => self.stop().await,
            _ => self.lose_journal().await,
        }
    }

    fn request(&mut self, thread: usize) -> anyhow::Result<()> {
        let now = self.clock.now();
        let subscription = SubscriptionId::new(&format!("sub-{}", self.pick(3)));
        let key = KeyId::new(&format!("key-{}", self.pick(2)));
        let with_key = self.pick(2) == 0;
        let mut limits = vec![quota(
            &PeriodScope::Subscription(subscription.clone()),
            now.wall,
        )];
        if with_key {
            limits.push(quota(&PeriodScope::Key(key.clone()), now.wall));
        }
        let cost = self.pick(12);
        let writer = self
            .life
            .writers
            .get_mut(thread)
            .context("no such thread")?;
        let grants = &mut Grants(writer);
        let taken = self
            .life
            .counters
            .reserve(&limits, cost, now, Enforcement::Enforce, grants);
        self.requests += 1;
        if let Ok(reservation) = taken {
            let start = period_of(now.wall).start;
            let event = UsageEvent {
                id: EventId::Request(RequestId::from_uuid(self.requests)),
                at: now.wall,
                key: Some(key.clone()),
                key_family: Some(key),
                subscription: Some(subscription),
                subscription_period: Some(start),
                key_period: with_key.then_some(start),
                ..testing::event(0)
            };
            self.life.open.push(Open { reservation, event });
        }
        Ok(())
    }

    /// Ships everything in batches of so many events, or dies after the first of them.
    async fn ship(&self, batch_events_max: usize) -> anyhow::Result<()> {
        let node = self.life.journal.node().clone();
        let source = Arc::new(LocalJournal::new(node, self.life.journal.reader()));
        let options = ShipOptions {
            batch_events_max,
            ..ShipOptions::default()
        };
        let shipper = Shipper::new(
            source,
            self.store.clone(),
            self.clock.clone(),
            self.ids.clone(),
            options,
        );
        shipper.flush().await?;
        Ok(())
    }

    /// As the server does at every start.
    async fn seed(&self) -> anyhow::Result<()> {
        let now = self.clock.now();
        let period = period_of(now.wall);
        for used in self.store.list_period_units(period.start).await? {
            let kind = CounterKind::Quota {
                ends_at: period.end,
            };
            let counter = counter_of(&used.scope, used.start);
            self.life
                .counters
                .seed_quota(counter, kind, used.units, now);
        }
        // Before the first request: what was learned stands in no record of this journal.
        self.life.checkpoint(now)
    }

    /// The process dies; the kernel has what was written.
    async fn kill(&mut self) -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        copy(self.life.folder.path(), folder.path())?;
        self.proven(folder.path(), "after the kill").await?;
        self.life = start(folder, &self.clock, &self.ids)?;
        let folder = self.life.folder.path().to_owned();
        self.proven(&folder, "before seeding").await?;
        self.seed().await
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        while !self.life.open.is_empty() {
            self.life.end(0, 0, 1)?;
        }
        self.life.counters.return_grants();
        self.life.checkpoint(self.clock.now())?;
        let folder = tempfile::tempdir()?;
        let before = std::mem::replace(
            &mut self.life,
            start(tempfile::tempdir()?, &self.clock, &self.ids)?,
        );
        before.journal.close()?;
        copy(before.folder.path(), folder.path())?;
        self.proven(folder.path(), "after the stop").await?;
        self.life = start(folder, &self.clock, &self.ids)?;
        self.seed().await
    }

    /// The disk is gone; what the platform took in is all there is.
    async fn lose_journal(&mut self) -> anyhow::Result<()> {
        self.clock.advance_us(2_000_000);
        self.life = start(tempfile::tempdir()?, &self.clock, &self.ids)?;
        let folder = self.life.folder.path().to_owned();
        self.proven(&folder, "with a new journal").await?;
        self.seed().await
    }

    async fn report(&self, folder: &Path) -> anyhow::Result<ReconcileReport> {
        let found = FolderJournal::find(Arc::new(DiskFilesystem), folder)?;
        let view: Arc<dyn JournalView> = Arc::new(found.context("no journal")?);
        let now = self.clock.now().wall;
        Ok(reconcile(&self.store, Some(view), now, &ReconcileOptions::default()).await?)
    }

    async fn proven(&mut self, folder: &Path, when: &str) -> anyhow::Result<()> {
        let report = self.report(folder).await?;
        ensure!(report.ok, "{when}: {:#?}", differing(&report));
        Ok(())
    }

    fn note_held(&mut self) -> anyhow::Result<()> {
        let folder = Folder::open(Arc::new(DiskFilesystem), self.life.folder.path())?;
        let checkpoint = folder
            .and_then(|folder| folder.checkpoint())
            .context("no checkpoint")?;
        let counters = checkpoint.shards.iter().flat_map(|shard| &shard.counters);
        self.held = self.held.max(counters.map(|counter| counter.held).sum());
        Ok(())
    }
}

fn differing(report: &ReconcileReport) -> Vec<String> {
    let lines = report.lines.iter().filter(|line| !line.ok);
    lines.map(ToString::to_string).collect()
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        // The sync thread goes on: it may put a small file in place or take one away meanwhile.
        match std::fs::copy(entry.path(), to.join(entry.file_name())) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

#[tokio::test]
async fn over_kills_stops_and_lost_journals_quotas_and_records_agree_to_the_unit()
-> anyhow::Result<()> {
    let first = setting("TOLLGATE_SEED", 1);
    let mut held = 0;
    for seed in first..first + setting("TOLLGATE_RESTART_RUNS", 12) {
        let mut world = World::new(seed)?;
        for step in 0..250 {
            let stepped = world.step().await;
            stepped.with_context(|| format!("seed {seed}, step {step}"))?;
            if step % 5 == 0 {
                let folder = world.life.folder.path().to_owned();
                let when = format!("seed {seed}, step {step}");
                world.proven(&folder, &when).await?;
                world.note_held()?;
            }
        }
        held = held.max(world.held);
    }
    ensure!(
        held > 0,
        "no kill left anything held: the test proves little"
    );
    Ok(())
}

fn tollgate(arguments: &[&str]) -> anyhow::Result<std::process::Output> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .output()?;
    Ok(output)
}

#[test]
fn without_a_store_or_a_month_it_says_so() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().to_str().context("a path in UTF-8")?;
    assert!(tollgate(&["init", dir])?.status.success());
    let config = format!("{dir}/tollgate.toml");
    let nothing = tollgate(&["reconcile", "--config", &config])?;
    assert_eq!(nothing.status.code(), Some(1));
    let said = String::from_utf8(nothing.stderr)?;
    assert!(said.contains("there is no store"), "{said}");
    for wrong in ["May", "2026", "2026-13"] {
        let refused = tollgate(&["reconcile", "--config", &config, "--period", wrong])?;
        assert_eq!(refused.status.code(), Some(2), "{wrong}");
    }
    Ok(())
}
