//! Calm: faults stop, everything drains, every sum agrees, a fresh request passes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tollgate_metering::{FolderJournal, JournalView, ReconcileOptions, reconcile};
use tollgate_model::{By, CatalogSink, Outcome, Timestamp};
use tollgate_store::{OutcomeTotals, PeriodScope, UsageStore};

use crate::market::Call;
use crate::shelf::Weather;
use crate::truth::Checked;
use crate::world::{DIR, World};

/// Passes of the shipper until it must be through.
const PASSES_MAX: u32 = 3;

impl World {
    /// Faults stop, and everything that is promised for then is asked for.
    pub(crate) fn calm(&mut self) -> Checked {
        self.say(|| "calm".into());
        self.disk.clear_faults();
        self.disk.set_bytes_max(None);
        self.shelf.set_weather(Weather::Fine, 0);
        self.clock.freeze(false);
        self.turn()?;
        self.end_all()?;
        self.drain()?;
        let status = self
            .life
            .as_ref()
            .map(|life| life.gateway.journal().status());
        if let Some(status) = status.filter(|s| s.full.is_some() || s.unsynced_bytes > 0) {
            return Err(format!("the journal does not recover: {status:?}"));
        }
        let waiting = self.life.as_ref().map_or(0, |life| life.waiting.len());
        if waiting > 0 {
            return Err(format!("{waiting} answers still wait for the disk"));
        }
        self.truth.check_whole()?;
        self.check_store()?;
        self.check_journal()?;
        self.report.calms += 1;
        Ok(())
    }

    /// Everything reaches the disk, then the store, then what is done with goes.
    fn drain(&mut self) -> Checked {
        for _ in 0..2 {
            self.sync()?;
            if let Some(life) = &self.life {
                let written = life.gateway.checkpoint();
                written.map_err(|error| format!("no checkpoint on a healthy disk: {error}"))?;
            }
        }
        let mut passed = false;
        for _ in 0..PASSES_MAX {
            passed = self.try_ship()?;
            if passed {
                break;
            }
        }
        let waiting = self
            .life
            .as_ref()
            .map_or(0, |life| life.shipper.status().waiting);
        if !passed || waiting > 0 {
            return Err(format!("{waiting} entries do not reach the store"));
        }
        self.purge()?;
        // A purge writes its ledger; the next sync sees to the spare segments.
        self.sync()
    }

    /// Σ records = Σ buckets = Σ periods = what truth counted.
    fn check_store(&mut self) -> Checked {
        let runtime = self.runtime.as_ref().ok_or("there is no runtime")?;
        let totals = runtime.block_on(self.shelf.ledger_totals());
        let (totals, marks) = totals.map_err(|error| error.to_string())?;
        let units: u64 = totals.records.units.iter().sum();
        let mut ingested = OutcomeTotals::default();
        for mark in &marks {
            ingested.merge(&mark.totals);
        }
        let sums = [
            units,
            totals.bucket_units,
            totals.route_bucket_units,
            ingested.units.iter().sum(),
        ];
        let requests = [
            totals.record_requests,
            totals.bucket_requests,
            totals.route_bucket_requests,
        ];
        if sums.iter().any(|sum| *sum != units)
            || requests.iter().any(|sum| *sum != totals.record_requests)
            || ingested != totals.records
        {
            return Err(format!(
                "records and buckets differ: {totals:?}, {ingested:?}"
            ));
        }
        let periods = runtime.block_on(self.shelf.list_period_units(Timestamp(i64::MIN)));
        let periods = periods.map_err(|error| error.to_string())?;
        let mut stored = BTreeMap::new();
        for period in periods {
            let holders = &self.market.holders;
            let (by, id) = match &period.scope {
                PeriodScope::Subscription(id) => {
                    let holder = holders.iter().find(|h| h.key.subscription == *id);
                    (By::Subscription, holder.map(|h| h.subscription))
                }
                PeriodScope::Key(id) => (By::Key, holders.iter().position(|h| h.key.id == *id)),
            };
            stored.insert((by, id.unwrap_or(usize::MAX), period.start.0), period.units);
        }
        if stored != *self.truth.delivered_units() {
            return Err(format!(
                "periods differ: stored {stored:?}, counted {:?}",
                self.truth.delivered_units()
            ));
        }
        Ok(())
    }

    /// Σ journal = Σ records, and the product's own proof agrees.
    fn check_journal(&mut self) -> Checked {
        if self.powerless {
            return Ok(());
        }
        let runtime = self.runtime.as_ref().ok_or("there is no runtime")?;
        let life = self.life.as_ref().ok_or("there is no process")?;
        let mut journal = OutcomeTotals::default();
        for stream in life.gateway.journal().reader().totals() {
            journal.merge(&stream.totals);
        }
        let totals = runtime.block_on(self.shelf.ledger_totals());
        let (totals, _) = totals.map_err(|error| error.to_string())?;
        if (journal.events, journal.units) != (totals.records.events, totals.records.units) {
            return Err(format!("journal {journal:?} and records {totals:?} differ"));
        }
        // Quotas know of what an API lets pass unrecorded when there is no room, by its own wish.
        if self.callers == self.market.holders.len() {
            return Ok(());
        }
        self.reconcile()
    }

    fn reconcile(&self) -> Checked {
        let runtime = self.runtime.as_ref().ok_or("there is no runtime")?;
        let life = self.life.as_ref().ok_or("there is no process")?;
        // What the last checkpoint does not hold cannot be proved.
        life.gateway
            .checkpoint()
            .map_err(|error| error.to_string())?;
        let folder = FolderJournal::find(self.disk.view(), Path::new(DIR));
        let folder = folder.map_err(|error| error.to_string())?;
        let view = folder.map(|folder| Arc::new(folder) as Arc<dyn JournalView>);
        let store: Arc<dyn UsageStore> = self.shelf.clone();
        let now = self.now().wall;
        let told = runtime.block_on(reconcile(&store, view, now, &ReconcileOptions::default()));
        let report = told.map_err(|error| error.to_string())?;
        let wrong = report.lines.iter().filter(|line| !line.ok);
        let wrong: Vec<String> = wrong.map(ToString::to_string).collect();
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!("reconcile: {}", wrong.join("; "))),
        }
    }

    /// Every key passes once more, and its record arrives.
    pub(crate) fn last_request(&mut self) -> Checked {
        // Beyond every window, and beyond what lost counters hold against it.
        self.clock.advance_us(3 * 86_400_000_000);
        let (catalog, keys) = self.market.lift_limits();
        if let Some(life) = &self.life {
            let handle = life.gateway.handle();
            handle.publish_catalog(catalog);
            handle.publish_keys(keys);
        }
        self.truth.see(self.now());
        self.turn()?;
        let before = self.truth.delivered;
        let holders = self.market.holders.len();
        for holder in 0..holders {
            let call = Call {
                holder,
                route: 0,
                address: 0,
            };
            if !self.ask(call)? {
                return Err(format!("key {holder} does not pass in the calm"));
            }
            self.finish(0, Outcome::UpstreamError)?;
        }
        self.drain()?;
        self.truth.check_whole()?;
        if self.truth.delivered < before + holders as u64 {
            return Err("the records of the last requests do not arrive".into());
        }
        Ok(())
    }
}
