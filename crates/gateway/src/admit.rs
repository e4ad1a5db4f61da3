//! Steps 7 and 8 of the order of refusals: room in the journal, then all limits at once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use tollgate_admission::{
    self as admission, CompiledLimits, Cost, Enforcement, GivenBack, HeaderValues, KnownScopes,
    LimitTerms, Limits, Reading,
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

/// Terms that a thread keeps at most, about 900 bytes each: one for each plan, calendar and route
/// in use, and one for each key and route where limits stand on the key.
const TERMS_MAX: usize = 16_384;

/// Limits worked out once and kept until the catalog or the key changes, or until half of
/// [`TERMS_MAX`] others were asked for since they last were.
#[derive(Default)]
pub(crate) struct CompiledCache {
    kept: TermsMap,
    /// Asked for before those; whoever is asked for again moves over.
    before: TermsMap,
    /// The catalog that they were worked out from.
    catalog_version: u64,
}

type TermsMap = HashMap<TermsKey, Cached, BuildHasherDefault<MixesWords>>;

/// Addresses of shared values; [`Cached`] keeps the values themselves, so that no other value
/// comes to stand at one of them meanwhile.
#[derive(PartialEq, Eq)]
struct TermsKey {
    /// The key, where limits stand on it.
    key: usize,
    plan: usize,
    api: usize,
    route: usize,
    calendar: u32,
    /// With a key, a subscription without one, or nobody known.
    by_key: bool,
    subscribed: bool,
}

impl Hash for TermsKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Each moved elsewhere, so that what they have in common does not cancel out: addresses
        // differ in their middle bits, the others in their lowest.
        let words = self.key
            ^ self.plan.rotate_left(16)
            ^ self.api.rotate_left(32)
            ^ self.route.rotate_left(48)
            ^ (self.calendar as usize).rotate_left(56);
        state.write_usize(words);
    }
}

struct Cached {
    terms: Rc<LimitTerms>,
    _alive: (Caller, Arc<ApiRoutes>),
}

/// Spreads a few words that nobody outside can choose. Multiplying by an odd number loses nothing,
/// and folding the upper half down lets every bit bear on the place.
#[derive(Default)]
struct MixesWords(u64);

impl MixesWords {
    fn mix(&mut self, word: u64) {
        // 2^64 divided by the golden ratio, odd (Knuth, TAOCP 3, 6.4).
        let product = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

impl Hasher for MixesWords {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }
    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }
}

/// The caller as admission takes it.
pub(crate) fn as_admission<'a>(caller: &'a Caller, open: bool) -> admission::Caller<'a> {
    match (&caller.payer, &caller.anonymous) {
        _ if open => admission::Caller::Open,
        (Some(payer), _) => admission::Caller::Subscribed {
            key: caller.key.as_ref().map(|key| key.terms()),
            subscription: &payer.subscription,
            plan: &payer.plan,
        },
        (None, Some(plan)) => admission::Caller::Anonymous { plan },
        (None, None) => admission::Caller::Open,
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
    ) -> CompiledLimits {
        let asked = as_admission(caller, route.open());
        let known = KnownScopes {
            subscription: caller.payer.as_ref().map(|payer| payer.scope),
            key: caller.key.as_ref().map(|key| key.scope),
        };
        let key = TermsKey::of(caller, route);
        // Another thread may have begun a period that the wall clock has been set back from since.
        let latest = periods.latest(now);
        self.keep_few(catalog.version);
        if let Some(cached) = self.kept.get(&key)
            && cached.terms.is_current(latest)
        {
            return cached.terms.bind(asked, known);
        }
        let kept = self.before.remove(&key);
        let cached = kept
            .filter(|cached| cached.terms.is_current(latest))
            .unwrap_or_else(|| {
                let by = periods.at(now);
                let terms = LimitTerms::new(catalog, asked, route.api(), route.route(), by);
                Cached {
                    terms: Rc::new(terms),
                    _alive: (caller.clone(), Arc::clone(route.owner())),
                }
            });
        let compiled = cached.terms.bind(asked, known);
        self.kept.insert(key, cached);
        compiled
    }

    /// Forgets what is of another catalog, and what was not asked for lately.
    fn keep_few(&mut self, catalog_version: u64) {
        if self.catalog_version != catalog_version {
            self.kept.clear();
            self.before.clear();
            self.catalog_version = catalog_version;
        }
        if self.kept.len() >= TERMS_MAX / 2 {
            std::mem::swap(&mut self.before, &mut self.kept);
            self.kept.clear();
        }
    }
}

impl TermsKey {
    fn of(caller: &Caller, route: &RouteMatch) -> Self {
        let closed = !route.open();
        let key = caller.key.as_ref().filter(|_| closed);
        let payer = caller.payer.as_ref().filter(|_| closed);
        let plan = caller.plan().filter(|_| closed);
        Self {
            key: key
                .filter(|key| key.has_limits())
                .map_or(0, |key| Arc::as_ptr(key) as usize),
            plan: plan.map_or(0, |plan| Arc::as_ptr(plan) as usize),
            api: Arc::as_ptr(route.owner()) as usize,
            route: route.index().unwrap_or(usize::MAX),
            calendar: payer.map_or(0, |payer| payer.calendar),
            by_key: key.is_some(),
            subscribed: payer.is_some(),
        }
    }
}

/// What a request was found to be bound by.
pub(crate) struct Bounds {
    pub(crate) compiled: CompiledLimits,
    pub(crate) limits: Limits,
    pub(crate) cost: Cost,
}

/// What an answer tells about limits.
pub(crate) struct Told {
    pub(crate) values: HeaderValues,
    pub(crate) compiled: CompiledLimits,
}

/// A refusal and what its headers tell.
pub(crate) struct NotAdmitted {
    pub(crate) denial: Denial,
    pub(crate) told: Told,
}

/// Everything that bears on a request.
pub(crate) fn bounds(visit: &Visit, caller: &Caller, route: &RouteMatch) -> Bounds {
    let catalog = &visit.catalog.catalog;
    let periods = &visit.worker.node().periods;
    let compiled = visit
        .worker
        .compiled()
        .get(catalog, caller, route, visit.now, periods);
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
                readings: reservation.readings().collect(),
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
fn over_admitted(limits: &Limits, readings: impl Iterator<Item = Reading>) -> u64 {
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
    use crate::keys::KnownKey;
    use crate::metrics::Metrics;
    use crate::routes::RouteTable;
    use crate::testing::{api, catalog_of, key, payer, plan, subscription};
    use tollgate_admission::Applicable;
    use tollgate_model::{By, Per, RateLimit, Ticks, Timestamp};

    const NOW: Now = Now {
        wall: Timestamp(0),
        ticks: Ticks(0),
    };

    struct World {
        catalog: Catalog,
        route: RouteMatch,
        periods: PeriodClock,
        cache: CompiledCache,
    }

    impl World {
        fn new() -> Self {
            let catalog = catalog_of(vec![api("a", "/", Vec::new())]);
            let table = RouteTable::compile(&catalog, &Metrics::default());
            let found = table.find_api("", "/x").unwrap();
            Self {
                route: found.find_route("/x", "GET").unwrap(),
                catalog,
                periods: PeriodClock::default(),
                cache: CompiledCache::default(),
            }
        }

        fn get(&mut self, caller: &Caller) -> CompiledLimits {
            let (catalog, route) = (&self.catalog, &self.route);
            self.cache.get(catalog, caller, route, NOW, &self.periods)
        }

        /// What the caller would get from nothing kept.
        fn anew(&self, caller: &Caller) -> Vec<Applicable> {
            let asked = as_admission(caller, false);
            let route = self.route.route();
            let compiled = CompiledLimits::new(&self.catalog, asked, self.route.api(), route, NOW);
            compiled.at(NOW, None).into_vec()
        }

        fn kept(&self) -> usize {
            self.cache.kept.len() + self.cache.before.len()
        }
    }

    fn limit(max: u32, by: By) -> RateLimit {
        RateLimit {
            id: None,
            max,
            per: Per::Minute,
            by: Some(by),
            shadow: false,
        }
    }

    #[test]
    fn callers_of_one_plan_share_its_terms_and_never_their_counters() {
        let mut world = World::new();
        let mut offer = plan("p");
        offer.limits = [By::Subscription, By::Key, By::Organization, By::Api]
            .map(|by| tollgate_model::LimitUse::Inline(limit(9, by)))
            .to_vec();
        let payer_of = |n: u8| payer(subscription(&format!("s{n}"), "p", &["a"]), offer.clone());
        let shared = payer_of(0);
        let mut seen: Vec<Vec<Applicable>> = Vec::new();
        for n in 0..20u8 {
            // Two keys of each subscription but the first, which is called for without a key too;
            // every fifth key has a limit of its own.
            let payer = if n < 2 {
                Arc::clone(&shared)
            } else {
                let mut own = payer_of(n / 2);
                Arc::get_mut(&mut own).unwrap().plan = Arc::clone(&shared.plan);
                own
            };
            let mut one = key(&format!("key_{n}"), n);
            if n % 5 == 1 {
                one.limits = vec![limit(u32::from(n), By::Key)];
            }
            let caller = Caller {
                key: (n > 0).then(|| Arc::new(KnownKey::new(&one, 1))),
                payer: Some(payer),
                anonymous: None,
            };
            let got = world.get(&caller).at(NOW, None).into_vec();
            assert_eq!(got, world.anew(&caller), "{n}");
            assert_eq!(world.get(&caller).at(NOW, None).into_vec(), got, "{n}");
            assert!(!seen.contains(&got));
            seen.push(got);
        }
        // One without a key, one for all plain keys, four for keys with limits of their own.
        assert_eq!(world.kept(), 6);
    }

    #[test]
    fn who_was_asked_for_lately_keeps_the_limits_and_no_more_than_the_bound_are_kept() {
        let mut world = World::new();
        let payer = payer(subscription("s", "p", &["a"]), plan("p"));
        let caller = |n: u32| {
            let mut own = key("key_a", 1);
            own.limits = vec![limit(n + 1, By::Key)];
            Caller {
                key: Some(Arc::new(KnownKey::new(&own, 1))),
                payer: Some(Arc::clone(&payer)),
                anonymous: None,
            }
        };
        let most = u32::try_from(TERMS_MAX).unwrap();
        let first = caller(0);
        let is_kept = |world: &World| {
            let key = TermsKey::of(&first, &world.route);
            world.cache.kept.contains_key(&key) || world.cache.before.contains_key(&key)
        };
        world.get(&first);
        for n in 1..most + most / 2 {
            world.get(&caller(n));
            if n % (most / 4) == 0 {
                assert!(is_kept(&world), "{n}");
                world.get(&first);
            }
            assert!(world.kept() <= TERMS_MAX);
        }
        for n in 0..most {
            world.get(&caller(n));
        }
        assert!(!is_kept(&world));
    }
}
