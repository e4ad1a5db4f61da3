//! How long decisions take, and how many fit into a second of a core.

use std::sync::{Arc, Barrier};
use std::thread;

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use tollgate_counters::{GrantLog, GrantRefused};
use tollgate_gateway::{Lane, Probe};
use tollgate_lifecycle::SystemClock;
use tollgate_model::{Clock, Mark, Now};

use super::world::{self, PATH};

/// Time between two calls of a thread, in microseconds: what slots see.
const CALL_EVERY_US: u64 = 10;

/// How keys are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Each as often.
    Uniform,
    /// The k-th most used 1/k as often as the first.
    Skewed,
}

impl Use {
    /// As it is printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Skewed => "skewed",
        }
    }
}

/// Percentiles in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Percentiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
}

/// One measurement.
#[derive(Debug)]
pub struct Run {
    pub keys: u32,
    pub used: Use,
    /// Hashing the presented secret.
    pub hash: Percentiles,
    /// From the hash to the reservation: key, subscription, plan, limits, counters.
    pub decide: Percentiles,
    /// Ending the request on its counters.
    pub settle: Percentiles,
    /// Decided and settled, without hashing, in a second of one thread's processor time.
    pub per_core: f64,
    /// The same with hashing.
    pub per_core_with_hash: f64,
    /// With hashing, by all cores at once, in a second.
    pub all_cores: f64,
}

/// Measures one number of keys, in both uses.
///
/// # Errors
/// When the world cannot be built or a call is refused.
pub fn measure(keys: u32, keys_per_subscription: u32, calls: u32) -> anyhow::Result<Vec<Run>> {
    let threads = u16::try_from(cores()).unwrap_or(1);
    let probe = Arc::new(world::probe(keys, keys_per_subscription, threads, None)?);
    let mut caller = Caller::new(&probe)?;
    // Counters and compiled limits are there before anything is measured.
    for key in 0..keys {
        caller.call(key)?;
    }
    let mut runs = Vec::new();
    for used in [Use::Uniform, Use::Skewed] {
        runs.push(Run {
            keys,
            used,
            ..one(&probe, &mut caller, keys, used, calls)?
        });
    }
    Ok(runs)
}

fn one(
    probe: &Arc<Probe>,
    caller: &mut Caller,
    keys: u32,
    used: Use,
    calls: u32,
) -> anyhow::Result<Run> {
    let mut chosen = Choice::new(keys, used, 1);
    let mut stages: [Vec<u32>; 3] = Default::default();
    for _ in 0..calls {
        let took = caller.timed(chosen.next(), instant_ns)?;
        for (stage, ns) in stages.iter_mut().zip(took) {
            stage.push(ns);
        }
    }
    let [hash, decide, settle] = stages.map(percentiles);
    let mut chosen = Choice::new(keys, used, 2);
    let began = processor_ns();
    for _ in 0..calls {
        caller.call(chosen.next())?;
    }
    let whole = processor_ns() - began;
    // What does not belong to deciding: choosing a key, and hashing it.
    let mut chosen = Choice::new(keys, used, 2);
    let began = processor_ns();
    for _ in 0..calls {
        std::hint::black_box(probe.hash(&world::secret(chosen.next())));
    }
    let hashing = processor_ns() - began;
    let a_second = |ns: u64| f64::from(calls) * 1e9 / ns.max(1) as f64;
    Ok(Run {
        keys,
        used,
        hash,
        decide,
        settle,
        per_core: a_second(whole.saturating_sub(hashing)),
        per_core_with_hash: a_second(whole),
        all_cores: on_all_cores(probe, keys, used, calls)?,
    })
}

fn on_all_cores(probe: &Arc<Probe>, keys: u32, used: Use, calls: u32) -> anyhow::Result<f64> {
    let threads = cores();
    let start = Arc::new(Barrier::new(threads));
    let running: Vec<_> = (0..threads)
        .map(|n| {
            let (probe, start) = (Arc::clone(probe), Arc::clone(&start));
            thread::spawn(move || -> anyhow::Result<(u64, u64)> {
                let caller = Caller::new(&probe);
                let mut chosen = Choice::new(keys, used, n as u64 + 3);
                start.wait();
                let began = instant_ns();
                let mut caller = caller?;
                for _ in 0..calls {
                    caller.call(chosen.next())?;
                }
                Ok((began, instant_ns()))
            })
        })
        .collect();
    let (mut first, mut last) = (u64::MAX, 0);
    for thread in running {
        let ended = thread.join();
        let (began, end) = ended.ok().context("a measuring thread panicked")??;
        first = first.min(began);
        last = last.max(end);
    }
    let all = f64::from(calls) * threads as f64;
    Ok(all * 1e9 / last.saturating_sub(first).max(1) as f64)
}

/// One thread that calls.
pub struct Caller {
    probe: Arc<Probe>,
    lane: Lane,
    now: Now,
    marks: Marks,
    charges: u64,
}

/// Marks in memory; the newest are kept, as a journal's page would be.
#[derive(Default)]
struct Marks(Vec<Mark>);

impl GrantLog for Marks {
    fn grant(&mut self, marks: &[Mark]) -> Result<(), GrantRefused> {
        if self.0.len() > 4_096 {
            self.0.clear();
        }
        self.0.extend_from_slice(marks);
        Ok(())
    }
}

impl Caller {
    /// A thread of this gateway.
    ///
    /// # Errors
    /// When the catalog is not what it should be.
    pub fn new(probe: &Arc<Probe>) -> anyhow::Result<Self> {
        Ok(Self {
            probe: Arc::clone(probe),
            lane: probe.lane(PATH).context("the path has no route")?,
            now: SystemClock::new().now(),
            marks: Marks::default(),
            charges: 0,
        })
    }

    /// One call.
    ///
    /// # Errors
    /// When it is refused.
    pub fn call(&mut self, key: u32) -> anyhow::Result<()> {
        self.timed(key, || 0).map(|_| ())
    }

    /// One call, and how long hashing, deciding and settling took.
    fn timed(&mut self, key: u32, stamp: impl Fn() -> u64) -> anyhow::Result<[u32; 3]> {
        self.now.ticks = self.now.ticks.plus_us(CALL_EVERY_US);
        let secret = world::secret(key);
        let begun = stamp();
        let hash = self.probe.hash(&secret);
        let hashed = stamp();
        let taken = self.lane.decide(&hash, self.now, &mut self.marks);
        let decided = stamp();
        let taken = taken.map_err(|why| anyhow::anyhow!("refused: {why:?}"))?;
        let charges = &mut self.charges;
        self.lane.settle(taken, 1, &mut |assigned| {
            *charges += assigned.len() as u64;
        });
        let settled = stamp();
        let took = |from: u64, to: u64| u32::try_from(to - from).unwrap_or(u32::MAX);
        Ok([
            took(begun, hashed),
            took(hashed, decided),
            took(decided, settled),
        ])
    }
}

/// Which key calls next.
struct Choice {
    keys: u32,
    used: Use,
    state: u64,
}

impl Choice {
    fn new(keys: u32, used: Use, seed: u64) -> Self {
        Self {
            keys,
            used,
            state: seed,
        }
    }

    fn next(&mut self) -> u32 {
        // splitmix64 (Steele, Lea, Flood 2014): the same keys at every run.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let unit = (bits >> 11) as f64 / (1u64 << 53) as f64;
        let keys = f64::from(self.keys);
        let chosen = match self.used {
            Use::Uniform => unit * keys,
            // With the logarithm spread evenly, rank k comes up 1/k as often as the first.
            Use::Skewed => (unit * (keys + 1.0).ln()).exp() - 1.0,
        };
        (chosen as u32).min(self.keys - 1)
    }
}

fn percentiles(mut ns: Vec<u32>) -> Percentiles {
    ns.sort_unstable();
    let at = |hundredth: usize| {
        let place = ns.len() * hundredth / 100;
        ns.get(place).map_or(0, |ns| u64::from(*ns))
    };
    Percentiles {
        p50: at(50),
        p90: at(90),
        p99: at(99),
    }
}

/// What asking the time costs, in nanoseconds: it is in every figure of a single call.
#[must_use]
pub fn clock_ns() -> u64 {
    let begun = instant_ns();
    for _ in 0..10_000 {
        std::hint::black_box(instant_ns());
    }
    (instant_ns() - begun) / 10_000
}

/// Threads that can run at once.
#[must_use]
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The monotonic clock: what the platform's own clock gives is too coarse here.
pub fn instant_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Processor time of this thread: what others do on a busy machine is not in it.
fn processor_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let at = clock_gettime(clock);
    let whole = u64::try_from(at.tv_sec).unwrap_or(0);
    whole * 1_000_000_000 + u64::try_from(at.tv_nsec).unwrap_or(0)
}
