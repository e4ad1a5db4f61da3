//! Steps 7 and 8 of the order of refusals: room in the journal, then all limits at once.

use std::collections::HashMap;
use std::sync::Arc;

use tollgate_admission::{
    self as admission, CompiledLimits, Cost, Enforcement, GivenBack, HeaderValues, Limits, Reading,
};
use tollgate_counters::{GrantLog, GrantRefused, Reservation, ReserveError};
use tollgate_journal::EVENT_ROOM_BYTES;
use tollgate_model::{Api, Catalog, CountersLost, DenialCode, JournalFull, Mark, Mode, Now};

use crate::authenticate::Caller;
use crate::exchange::{Permit, Terms};
use crate::periods::PeriodClock;
use crate::problem::Denial;
use crate::routes::{ApiRoutes, RouteMatch};
use crate::service::Visit;
use crate::worker::Worker;

/// Compiled limits that a thread keeps at most, about 760 bytes each.
const COMPILED_MAX: usize = 65_536;

/// Limits by caller and route, worked out once and kept until the catalog or the key changes, or
/// until half of [`COMPILED_MAX`] others were asked for since they last were.
#[derive(Default)]
pub(crate) struct CompiledCache {
    by_caller: HashMap<CacheKey, Cached>,
    /// Asked for before those; whoever is asked for again moves over.
    before: HashMap<CacheKey, Cached>,
    /// The catalog that they were worked out from.
    catalog_version: u64,
}

/// Addresses of shared values; [`Cached`] keeps the values themselves, so that no other value
/// comes to stand at one of them meanwhile.
#[derive(PartialEq, Eq, Hash)]
struct CacheKey {
    key: usize,
    /// The subscription or, without one, the plan.
    payer: usize,
    api: usize,
    route: Option<usize>,
}

struct Cached {
    compiled: Arc<CompiledLimits>,
    _alive: (Caller, Arc<ApiRoutes>),
}

/// The caller as admission takes it.
pub(crate) fn as_admission<'a>(caller: &'a Caller, open: bool) -> admission::Caller<'a> {
    match (&caller.subscription, &caller.plan) {
        _ if open => admission::Caller::Open,
        (Some(subscription), Some(plan)) => admission::Caller::Subscribed {
            key: caller.key.as_ref().map(|key| key.terms()),
            subscription,
            plan,
        },
        (None, Some(plan)) => admission::Caller::Anonymous { plan },
        (_, None) => admission::Caller::Open,
    }
}

impl CompiledCache {
    /// The limits of a caller on a route.
    pub(crate) fn get(
        &mut self,
        catalog: &Catalog,
        caller: &Caller,
        route: &RouteMatch,
        now: Now,
        periods: &PeriodClock,
    ) -> Arc<CompiledLimits> {
        if self.catalog_version != catalog.version {
            self.by_caller.clear();
            self.before.clear();
            self.catalog_version = catalog.version;
        }
        if self.by_caller.len() >= COMPILED_MAX / 2 {
            std::mem::swap(&mut self.before, &mut self.by_caller);
            self.by_caller.clear();
        }
        let open = route.open();
        let place = |shared: Option<usize>| shared.filter(|_| !open).unwrap_or(0);
        let subscription = caller.subscription.as_ref();
        let plan = caller.plan.as_ref();
        let payer = subscription
            .map(|s| Arc::as_ptr(s) as usize)
            .or(plan.map(|p| Arc::as_ptr(p) as usize));
        let key = CacheKey {
            key: place(caller.key.as_ref().map(|k| Arc::as_ptr(k) as usize)),
            payer: place(payer),
            api: Arc::as_ptr(route.owner()) as usize,
            route: route.index(),
        };
        // Another thread may have begun a period that the wall clock has been set back from since.
        let latest = periods.latest(now);
        if let Some(cached) = self.by_caller.get(&key)
            && cached.compiled.is_current(latest)
        {
            return Arc::clone(&cached.compiled);
        }
        if let Some(cached) = self.before.remove(&key)
            && cached.compiled.is_current(latest)
        {
            let compiled = Arc::clone(&cached.compiled);
            self.by_caller.insert(key, cached);
            return compiled;
        }
        let asked = as_admission(caller, open);
        let by = periods.at(now);
        let compiled = CompiledLimits::new(catalog, asked, route.api(), route.route(), by);
        let compiled = Arc::new(compiled);
        let cached = Cached {
            compiled: Arc::clone(&compiled),
            _alive: (caller.clone(), Arc::clone(route.owner())),
        };
        self.by_caller.insert(key, cached);
        compiled
    }
}

/// What a request was found to be bound by.
pub(crate) struct Bounds {
    pub(crate) compiled: Arc<CompiledLimits>,
    pub(crate) limits: Limits,
    pub(crate) cost: Cost,
}

/// What an answer tells about limits.
pub(crate) struct Told {
    pub(crate) values: HeaderValues,
    pub(crate) compiled: Arc<CompiledLimits>,
}

/// A refusal and what its headers tell.
pub(crate) struct NotAdmitted {
    pub(crate) denial: Denial,
    pub(crate) told: Told,
}

/// Everything that bears on a request.
pub(crate) fn bounds(visit: &Visit, caller: &Caller, route: &RouteMatch) -> Bounds {
    let catalog = &visit.catalog.catalog;
    let compiled = visit.worker.compiled(catalog, caller, route, visit.now);
    let scope = compiled.needs_address().then(|| {
        let hold = compiled.address_hold(visit.now);
        let node = visit.worker.node();
        node.counters.scope_of_address(visit.address, hold)
    });
    let limits = compiled.at(visit.now, scope.as_ref());
    Bounds {
        cost: Cost::of(route.route()),
        compiled,
        limits,
    }
}

impl Bounds {
    /// Where the limits stand, with nothing charged.
    pub(crate) fn read(self, worker: &Worker, now: Now) -> Told {
        let cost = self.cost.reserved();
        let readings = worker.node().counters.read(&self.limits, cost, now);
        let values = HeaderValues::new(&self.limits, &readings, None, GivenBack::default(), now);
        Told {
            values,
            compiled: self.compiled,
        }
    }
}

/// Marks go into the thread's own journal.
struct ThreadLog<'a>(&'a Worker);

impl GrantLog for ThreadLog<'_> {
    fn grant(&mut self, marks: &[Mark]) -> Result<(), GrantRefused> {
        self.0.append_grant(marks).map_err(|_| GrantRefused)
    }
}

/// Takes units on every counter, or refuses. Nothing waits.
pub(crate) fn admit(
    visit: &Visit,
    api: &Api,
    bounds: Bounds,
) -> Result<(Terms, Permit), Box<NotAdmitted>> {
    let worker = &visit.worker;
    let metrics = &worker.node().metrics;
    let refuse = |bounds: Bounds, code, detail| {
        metrics.refused(code, bounds.cost.reserved());
        Err(Box::new(NotAdmitted {
            denial: Denial::unavailable(code, detail, visit.id),
            told: bounds.read(worker, visit.now),
        }))
    };
    let room = match (worker.reserve_room(EVENT_ROOM_BYTES), api.on_journal_full) {
        (Ok(room), _) => Some(room),
        (Err(_), JournalFull::DeclareLoss) => None,
        (Err(_), JournalFull::Refuse) => return refuse(bounds, DenialCode::JournalFull, FULL),
    };
    let enforcement = match (
        worker.node().lost.holds_back(&bounds.limits, visit.now),
        api.mode,
    ) {
        (false, Mode::Enforce) => Enforcement::Enforce,
        (_, Mode::Observe) => Enforcement::Observe,
        (true, Mode::Enforce) => match api.on_counters_lost {
            CountersLost::Open(units) if worker.node().lost.spend_open(units, bounds.cost) => {
                Enforcement::Off
            }
            _ => return refuse(bounds, DenialCode::CountersUnavailable, LOST),
        },
    };
    let cost = bounds.cost.reserved();
    match take(worker, &bounds.limits, cost, visit.now, enforcement, api) {
        Ok(reservation) => {
            if enforcement == Enforcement::Enforce {
                let over = over_admitted(&bounds.limits, reservation.readings());
                metrics.over_admitted_units.inc_by(over.min(cost));
            }
            let terms = Terms {
                cost: bounds.cost,
                readings: reservation.readings().iter().copied().collect(),
                compiled: bounds.compiled,
                limits: bounds.limits,
            };
            Ok((terms, Permit { reservation, room }))
        }
        Err(ReserveError::GrantRefused) => refuse(bounds, DenialCode::JournalFull, FULL),
        Err(ReserveError::Denied(denied)) => {
            metrics.refused(denied.refusal.code, cost);
            let values = HeaderValues::new(
                &bounds.limits,
                &denied.readings,
                Some(&denied.refusal),
                GivenBack::default(),
                visit.now,
            );
            Err(Box::new(NotAdmitted {
                denial: Denial::limited(denied.refusal),
                told: Told {
                    values,
                    compiled: bounds.compiled,
                },
            }))
        }
    }
}

/// Units by which an admitted request stands above a limit that holds: always 0. Asked of what
/// was read after charging, not of what was decided by.
fn over_admitted(limits: &Limits, readings: &[Reading]) -> u64 {
    let holding = limits
        .iter()
        .zip(readings)
        .filter(|(limit, _)| !limit.is_shadow());
    let over = holding.filter_map(|(limit, reading)| {
        let ceiling = limit.ceiling()?;
        Some(reading.counted.saturating_sub(ceiling))
    });
    over.max().unwrap_or(0)
}

const FULL: &str = "There is no room to write the request down.";
const LOST: &str =
    "What was used of a limit is not known now: counters were lost, or a period was changed.";

fn take(
    worker: &Worker,
    limits: &Limits,
    cost: u64,
    now: Now,
    enforcement: Enforcement,
    api: &Api,
) -> Result<Reservation, ReserveError> {
    let counters = &worker.node().counters;
    let taken = counters.reserve(limits, cost, now, enforcement, &mut ThreadLog(worker));
    match (taken, api.on_journal_full) {
        // The API would rather lose marks than refuse: what a crash then forgets is declared.
        (Err(ReserveError::GrantRefused), JournalFull::DeclareLoss) => {
            counters.reserve(limits, cost, now, enforcement, &mut Unwritten)
        }
        (taken, _) => taken,
    }
}

/// Marks that are not written down.
struct Unwritten;

impl GrantLog for Unwritten {
    fn grant(&mut self, _marks: &[Mark]) -> Result<(), GrantRefused> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::routes::RouteTable;
    use crate::testing::{api, catalog_of, plan, subscription};
    use tollgate_model::{Ticks, Timestamp};

    #[test]
    fn who_was_asked_for_lately_keeps_the_limits_and_no_more_than_the_bound_are_kept() {
        let catalog = catalog_of(vec![api("a", "/", Vec::new())]);
        let table = RouteTable::compile(&catalog, &Metrics::default());
        let found = table.find_api("", "/x").unwrap();
        let route = found.find_route("/x", "GET").unwrap();
        let plan = Arc::new(plan("p"));
        let caller = |n: usize| Caller {
            subscription: Some(Arc::new(subscription(&format!("s{n}"), "p", &["a"]))),
            plan: Some(Arc::clone(&plan)),
            ..Caller::default()
        };
        let now = Now {
            wall: Timestamp(0),
            ticks: Ticks(0),
        };
        let mut cache = CompiledCache::default();
        let first = caller(0);
        let compiled = cache.get(&catalog, &first, &route, now, &PeriodClock::default());
        for n in 1..COMPILED_MAX + COMPILED_MAX / 2 {
            cache.get(&catalog, &caller(n), &route, now, &PeriodClock::default());
            if n % (COMPILED_MAX / 4) == 0 {
                let again = cache.get(&catalog, &first, &route, now, &PeriodClock::default());
                assert!(Arc::ptr_eq(&compiled, &again));
            }
            assert!(cache.by_caller.len() + cache.before.len() <= COMPILED_MAX);
        }
        for n in 0..COMPILED_MAX {
            cache.get(&catalog, &caller(n), &route, now, &PeriodClock::default());
        }
        let again = cache.get(&catalog, &first, &route, now, &PeriodClock::default());
        assert!(!Arc::ptr_eq(&compiled, &again));
    }
}
