//! Everything that a run holds, and its two phases.

use std::collections::VecDeque;
use std::sync::Arc;

use http::request::Parts;
use tollgate_gateway::Options as GatewayOptions;
use tollgate_journal::testing::FaultyDisk;
use tollgate_journal::{JournalOptions, SyncMode};
use tollgate_model::{Clock, Now, Pepper, Timestamp};
use tollgate_testkit::SeededIds;

use crate::clock::SimClock;
use crate::dice::Dice;
use crate::life::Life;
use crate::market::{Call, Market, ROUTES_EACH};
use crate::shelf::Shelf;
use crate::truth::{Checked, Truth};
use crate::{Options, Report, Violation};

/// Where the journal lies.
pub(crate) const DIR: &str = "/journal";
/// Steps from one calm to the next.
const CALM_EVERY: u64 = 2_000;
/// Lines of trace that are kept.
const TRACE_MAX: usize = 400;
/// Addresses that clients call from.
pub(crate) const ADDRESSES: usize = 4;

pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) dice: Dice,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) ids: Arc<SeededIds>,
    pub(crate) pepper: Pepper,
    pub(crate) disk: FaultyDisk,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) market: Market,
    pub(crate) truth: Truth,
    pub(crate) runtime: Option<tokio::runtime::Runtime>,
    pub(crate) gateway: GatewayOptions,
    pub(crate) life: Option<Life>,
    pub(crate) heads: Vec<Parts>,
    pub(crate) report: Report,
    /// Keys that call; those of the API that rather loses records than refuses are the last.
    pub(crate) callers: usize,
    /// A power cut has happened: the journal may lack what the store has.
    pub(crate) powerless: bool,
    /// The run of the machine in which a process last came to live.
    pub(crate) boot_of_life: Option<u64>,
    step: u64,
    trace: VecDeque<String>,
}

impl World {
    pub(crate) fn new(options: &Options) -> Self {
        let dice = Dice::new(options.seed);
        let pepper = Pepper::new(b"simulation".to_vec());
        let market = Market::new(&pepper);
        // Shortly before midnight at the end of a month, somewhere in 2026.
        let start = 1_767_225_600_000_000
            + i64::try_from(dice.below(330 * 86_400)).unwrap_or(0) * 1_000_000;
        let disk = FaultyDisk::default();
        let runtime = tokio::runtime::Builder::new_current_thread().build().ok();
        Self {
            options: *options,
            clock: Arc::new(SimClock::at(Timestamp(start))),
            ids: Arc::new(SeededIds::new(dice.any())),
            shelf: Arc::new(Shelf::new(disk.clone())),
            disk,
            truth: Truth::default(),
            runtime,
            gateway: gateway_options(&dice),
            life: None,
            heads: heads(&market),
            report: Report::default(),
            callers: market.holders.len() - if dice.once_in(4) { 0 } else { 2 },
            powerless: false,
            boot_of_life: None,
            step: 0,
            trace: VecDeque::new(),
            dice,
            pepper,
            market,
        }
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn durable(&self) -> bool {
        self.gateway.journal.sync == SyncMode::Durable
    }

    pub(crate) fn run(&mut self) -> Result<Report, String> {
        self.start()?;
        while self.step < self.options.steps {
            self.step += 1;
            self.act()?;
            self.survive()?;
            if self.step.is_multiple_of(CALM_EVERY) {
                self.calm()?;
            }
            self.digest();
        }
        self.calm()?;
        self.last_request()?;
        self.report.operations = self.step;
        self.report.admitted = self.truth.admitted;
        self.report.refused = self.truth.refused;
        self.report.delivered = self.truth.delivered;
        self.report.excused = self.truth.excused;
        Ok(self.report)
    }

    /// Mixes into the digest where everything stands.
    fn digest(&mut self) {
        let parts = [
            self.disk.operations(),
            self.now().ticks.0,
            self.truth.admitted,
            self.truth.delivered,
        ];
        for part in parts {
            self.report.digest = (self.report.digest ^ part)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(7);
        }
    }

    /// The head of a call.
    pub(crate) fn head(&self, call: Call) -> Option<&Parts> {
        self.heads.get(call.holder * ROUTES_EACH + call.route)
    }

    /// Takes in what the store has committed.
    pub(crate) fn collect(&mut self) -> Checked {
        for event in self.shelf.take_taken() {
            self.truth.deliver(&self.market, &event)?;
        }
        Ok(())
    }

    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if self.options.trace {
            if self.trace.len() >= TRACE_MAX {
                self.trace.pop_front();
            }
            let now = self.now();
            let line = format!("{:>6} {} {}", self.step, now.wall, line());
            self.trace.push_back(line);
        }
    }

    pub(crate) fn violation(&mut self, what: String) -> Violation {
        Violation {
            seed: self.options.seed,
            step: self.step,
            what,
            trace: std::mem::take(&mut self.trace).into(),
        }
    }
}

fn gateway_options(dice: &Dice) -> GatewayOptions {
    let mut options = GatewayOptions::new(([127, 0, 0, 1], 0).into(), DIR);
    options.workers = 1 + dice.index(2);
    options.journal = JournalOptions {
        sync: if dice.once_in(3) {
            SyncMode::Durable
        } else {
            SyncMode::Fast
        },
        segment_bytes: dice.pick(&[32, 64, 128], 32) << 10,
        disk_bytes_max: dice.pick(&[768, 1_536, 4_096], 768) << 10,
        unsynced_bytes_max: dice.pick(&[64, 512], 64) << 10,
        keep_us: dice.pick(&[0, 60_000_000], 0),
        ..JournalOptions::new(DIR)
    };
    options
}

fn heads(market: &Market) -> Vec<Parts> {
    let calls = (0..market.holders.len()).flat_map(|holder| {
        (0..ROUTES_EACH).map(move |route| Call {
            holder,
            route,
            address: 0,
        })
    });
    let head = |call: Call| {
        let holder = market.holders.get(call.holder)?;
        let request = http::Request::get(market.path(call))
            .header("host", "api.example")
            .header("x-api-key", &holder.secret)
            .body(())
            .ok()?;
        Some(request.into_parts().0)
    };
    calls.filter_map(head).collect()
}

impl Drop for World {
    fn drop(&mut self) {
        // A run that broke off must not tidy up behind itself.
        self.disk.kill();
        self.life.take();
    }
}
