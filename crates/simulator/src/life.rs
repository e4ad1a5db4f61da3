//! One life of the gateway's process: how it starts, dies and stops.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tollgate_gateway::Deps;
use tollgate_gateway::by_hand::{Ack, Flight, GatewayByHand};
use tollgate_journal::testing::{Fault, PowerCut};
use tollgate_metering::{LocalJournal, ShipOptions, Shipper};
use tollgate_model::{By, CatalogSink, Period, RequestId, Timestamp};
use tollgate_store::{HighWaterMark, PeriodScope, UsageStore};

use crate::market::{Call, Price};
use crate::truth::{Checked, Death};
use crate::world::World;

/// Starts that may die one after the other before the disk is made whole.
const TRIES_MAX: u64 = 4;

/// A request between admission and its end.
pub(crate) struct Aloft {
    pub(crate) id: RequestId,
    pub(crate) flight: Flight,
    pub(crate) call: Call,
    pub(crate) price: Price,
    pub(crate) sent: bool,
    pub(crate) head: Option<u16>,
    pub(crate) stated: Option<u64>,
}

type Waiting = (RequestId, Pin<Box<dyn Future<Output = bool>>>);

/// A running process.
pub(crate) struct Life {
    // Before the gateway: dropped first.
    pub(crate) aloft: Vec<Aloft>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) shipper: Shipper,
    pub(crate) gateway: GatewayByHand,
    /// What [`tollgate_journal::testing::FaultyDisk::lives`] says while it lives.
    pub(crate) number: u64,
    /// Quotas wait for what the store knows.
    pub(crate) unseeded: bool,
}

impl World {
    /// Starts a process, dying over it now and then.
    pub(crate) fn start(&mut self) -> Checked {
        let before = self.now().ticks;
        for attempt in 0.. {
            if attempt >= TRIES_MAX {
                self.disk.clear_faults();
                self.disk.set_bytes_max(None);
            } else if attempt > 0 || self.dice.once_in(3) {
                let after = 1 + self.dice.below(40);
                self.disk.fault_at(after, Fault::Kill);
            }
            match self.try_start() {
                Ok(life) => {
                    self.life = Some(life);
                    let boot = Some(self.clock.boots());
                    let same_boot = std::mem::replace(&mut self.boot_of_life, boot) == boot;
                    if same_boot && self.now().ticks != before {
                        return Err("ticks moved within a run of the machine".into());
                    }
                    return self.welcome();
                }
                Err(error) => {
                    self.say(|| format!("a start died: {error}"));
                    self.report.stillborn += 1;
                    self.truth.stillborn();
                    self.disk.kill();
                    if attempt > TRIES_MAX {
                        return Err(format!("does not start on a healthy disk: {error}"));
                    }
                    if self.dice.once_in(6) {
                        self.cut_power();
                    }
                }
            }
        }
        Ok(())
    }

    fn try_start(&mut self) -> Result<Life, String> {
        self.clock.restart();
        let marks = self.shelf.all_high_water_marks();
        let marks = self.runtime.as_ref().map(|r| r.block_on(marks));
        let marks = marks.and_then(Result::ok);
        let pair = |mark: HighWaterMark| (mark.stream, mark.next);
        self.gateway.journal.platform_marks =
            marks.map(|marks| marks.into_iter().map(pair).collect());
        let deps = Deps {
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            pepper: self.pepper.clone(),
            filesystem: self.disk.mount(),
        };
        let number = self.disk.lives();
        self.shelf.set_caller(number);
        let started = GatewayByHand::start(self.gateway.clone(), deps);
        let gateway = started.map_err(|error| error.to_string())?;
        if self.disk.lives() != number {
            return Err("killed at the end of its start".into());
        }
        self.disk.clear_faults();
        let journal = LocalJournal::new(gateway.node_id().clone(), gateway.journal().reader());
        let options = ShipOptions {
            batch_events_max: self.dice.pick(&[7, 50, 1_000], 50),
            ..ShipOptions::default()
        };
        let store: Arc<dyn UsageStore> = self.shelf.clone();
        let (clock, ids) = (self.clock.clone(), self.ids.clone());
        Ok(Life {
            shipper: Shipper::new(Arc::new(journal), store, clock, ids, options),
            gateway,
            aloft: Vec::new(),
            waiting: Vec::new(),
            number,
            unseeded: true,
        })
    }

    /// What the platform tells a gateway that has started.
    fn welcome(&mut self) -> Checked {
        let now = self.now();
        let durable = self.durable();
        if let Some(life) = &self.life {
            let past = life.gateway.past();
            self.truth
                .reborn(now, durable, past.lost_span, past.complete);
            if !past.complete && !self.powerless {
                return Err("the journal does not tell everything after a mere kill".into());
            }
            let handle = life.gateway.handle();
            handle.publish_catalog(self.market.catalog());
            handle.publish_keys(self.market.all_keys());
            let interrupted = life.gateway.interrupted();
            let damage = life.gateway.journal().damage();
            self.say(|| format!("started: {past:?}, {interrupted} interrupted, {damage:?}"));
        }
        self.seed_quotas();
        Ok(())
    }

    /// Tells the gateway what the store knows of quotas.
    pub(crate) fn seed_quotas(&mut self) {
        let Some(life) = self.life.as_mut().filter(|life| life.unseeded) else {
            return;
        };
        let shelf = Arc::clone(&self.shelf);
        let known = shelf.list_period_units(Timestamp(0));
        let Some(Ok(known)) = self.runtime.as_ref().map(|r| r.block_on(known)) else {
            return;
        };
        let now = tollgate_model::Clock::now(&*self.clock).wall;
        let handle = life.gateway.handle();
        for used in known {
            let (by, text) = match &used.scope {
                PeriodScope::Subscription(id) => (By::Subscription, id.as_str()),
                PeriodScope::Key(id) => (By::Key, id.as_str()),
            };
            let mut holders = self.market.holders.iter();
            let found = holders.position(|holder| match by {
                By::Key => holder.key.id.as_str() == text,
                _ => holder.key.subscription.as_str() == text,
            });
            let Some(holder) = found else {
                continue;
            };
            let call = Call {
                holder,
                route: 0,
                address: 0,
            };
            let quotas = self.market.quotas(call);
            let Some((_, _, every, _)) = quotas.iter().find(|(b, ..)| *b == by) else {
                continue;
            };
            let subscription = self.market.subscription_of(holder);
            let period = self.market.period(subscription, *every, now);
            if let Some((start, end)) = period.filter(|(start, _)| *start == used.start.0) {
                let period = Period {
                    start: Timestamp(start),
                    end: Timestamp(end),
                };
                handle.seed_quota(by, text, period, used.units);
            }
        }
        handle.quotas_are_known();
        life.unseeded = false;
    }

    /// Whether the process that runs is the one that the disk knows.
    pub(crate) fn alive(&self) -> bool {
        let number = self.life.as_ref().map(|life| life.number);
        number == Some(self.disk.lives())
    }

    /// Where a fault has killed the process, the next one starts.
    pub(crate) fn survive(&mut self) -> Checked {
        if self.alive() {
            return Ok(());
        }
        self.say(|| "killed in the middle".into());
        self.kill()
    }

    /// `kill -9`, and a new start.
    pub(crate) fn kill(&mut self) -> Checked {
        self.disk.kill();
        self.report.kills += 1;
        self.life = None;
        self.truth.die(Death::Kill);
        if self.dice.once_in(12) {
            self.cut_power();
        }
        self.collect()?;
        self.start()
    }

    /// The machine stops, and starts again.
    pub(crate) fn lose_power(&mut self) -> Checked {
        self.disk.kill();
        self.life = None;
        self.cut_power();
        self.collect()?;
        self.start()
    }

    fn cut_power(&mut self) {
        let how = match self.dice.below(6) {
            0 => PowerCut::LoseAll,
            1 => PowerCut::KeepAll,
            _ => PowerCut::Random(self.dice.any()),
        };
        self.disk.cut_power(how);
        self.clock.reboot();
        self.report.power_cuts += 1;
        self.powerless = true;
        self.truth.die(Death::PowerCut);
        self.say(|| format!("power cut: {how:?}"));
    }

    /// An orderly stop, and a new start.
    pub(crate) fn stop(&mut self) -> Checked {
        self.end_all()?;
        let Some(life) = self.life.take() else {
            return Ok(());
        };
        let Life {
            gateway,
            waiting,
            shipper,
            aloft,
            ..
        } = life;
        drop((shipper, aloft));
        let whole = gateway.stop();
        self.report.stops += 1;
        self.poll(waiting);
        if !whole {
            self.truth.die(Death::Kill);
        } else {
            self.truth.all_synced();
            self.truth.rest();
        }
        self.disk.kill();
        self.say(|| format!("stopped, whole: {whole}"));
        self.start()
    }

    /// Looks which answers may end; those that may not yet are returned.
    pub(crate) fn poll(&mut self, waiting: Vec<Waiting>) -> Vec<Waiting> {
        let mut context = Context::from_waker(Waker::noop());
        let mut still = Vec::new();
        for (id, mut synced) in waiting {
            match synced.as_mut().poll(&mut context) {
                Poll::Ready(true) => self.truth.acknowledge(id),
                Poll::Ready(false) => {}
                Poll::Pending => still.push((id, synced)),
            }
        }
        still
    }

    pub(crate) fn poll_waiting(&mut self) {
        let waiting = self
            .life
            .as_mut()
            .map(|life| std::mem::take(&mut life.waiting));
        let still = self.poll(waiting.unwrap_or_default());
        if let Some(life) = &mut self.life {
            life.waiting = still;
        }
    }

    /// What the client of a request sees.
    pub(crate) fn heed(&mut self, id: RequestId, ack: Ack) {
        // A process that died over it has told nobody.
        if !self.alive() {
            return;
        }
        match (ack, &mut self.life) {
            (Ack::Done, _) => self.truth.acknowledge(id),
            (Ack::Waiting(synced), Some(life)) => life.waiting.push((id, synced)),
            (Ack::Waiting(_) | Ack::Failed, _) => {}
        }
    }
}
