//! Against a naive sliding log, at random times.

use super::*;
use proptest::prelude::*;
use tollgate_admission::slot_at;

const COUNTERS: usize = 6;

/// A list of everything that was ever admitted, asked from the beginning each time.
#[derive(Default)]
struct NaiveLog(Vec<Admitted>);

struct Admitted {
    at: Ticks,
    /// By bits: which of the limits.
    limits: u8,
    windows: u64,
    quotas: u64,
}

impl NaiveLog {
    fn counted(&self, n: usize, limit: &Applicable, now: Ticks) -> u64 {
        let on_it = self.0.iter().filter(|a| a.limits & 1 << n != 0);
        match limit.rule {
            Rule::Window { per, .. } => {
                let live = |a: &&Admitted| slot_at(per, now) - slot_at(per, a.at) <= 60;
                on_it.filter(live).map(|a| a.windows).sum()
            }
            Rule::Quota { .. } => on_it.map(|a| a.quotas).sum(),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    /// By bits which limits, whether the last is named first, and the cost.
    Reserve(u8, bool, u64),
    Settle(usize, u64, u64),
    Evict,
    Maxima([u32; COUNTERS]),
}

fn step() -> impl Strategy<Value = Step> {
    let max = |most: u32| 0..most;
    let maxima = [max(20), max(60), max(150), max(250), max(400), max(200)];
    prop_oneof![
        4 => (0u64..1_500_000).prop_map(Step::Pass),
        1 => (0u64..90_000_000).prop_map(Step::Pass),
        1 => (0u64..5_400_000_000).prop_map(Step::Pass),
        10 => (prop_oneof![Just(63u8), 0u8..64], any::<bool>(), 0u64..6)
            .prop_map(|(limits, back, cost)| Step::Reserve(limits, back, cost)),
        6 => (0usize..1_000, 0u64..8, 0u64..8).prop_map(|(n, w, q)| Step::Settle(n, w, q)),
        1 => Just(Step::Evict),
        1 => maxima.prop_map(Step::Maxima),
    ]
}

/// Windows and a quota of one scope, and others apart.
fn limits_of(max: [u32; COUNTERS]) -> [Applicable; COUNTERS] {
    let [second, minute, hour, day, month, other] = max;
    let units = |units: u32| (u64::from(units), Some(u64::from(units)));
    let first = window(1, Per::Second, second);
    [
        first,
        beside(&first, window(2, Per::Minute, minute)),
        beside(&first, window(3, Per::Hour, hour)),
        window(4, Per::Day, day),
        beside(&first, quota(5, units(month).0, units(month).1)),
        quota(6, units(other).0, units(other).1),
    ]
}

/// Counters and the naive log side by side.
struct Both {
    counters: MemoryCounters,
    log: NaiveLog,
    open: Vec<(Reservation, usize)>,
    limits: [Applicable; COUNTERS],
    us: u64,
}

impl Both {
    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        let now = after_us(self.us);
        match step {
            Step::Pass(passed) => self.us += passed,
            Step::Evict => {
                self.counters.evict(now);
            }
            Step::Maxima(max) => self.limits = limits_of(max),
            Step::Reserve(bits, back, cost) => {
                let on_it = |n: &usize| bits & 1 << n != 0;
                let mut asked: Vec<usize> = (0..COUNTERS).filter(on_it).collect();
                let admits = asked.iter().all(|n| {
                    let limit = &self.limits[*n];
                    !limit.refuses(self.log.counted(*n, limit, now.ticks), cost)
                });
                if back {
                    asked.reverse();
                }
                let limits: Vec<Applicable> = asked.iter().map(|n| self.limits[*n]).collect();
                let answer = reserve(&self.counters, &limits, cost, now);
                prop_assert_eq!(answer.is_ok(), admits);
                if let Ok(reservation) = answer {
                    self.open.push((reservation, self.log.0.len()));
                    self.log.0.push(Admitted {
                        at: now.ticks,
                        limits: bits,
                        windows: cost,
                        quotas: cost,
                    });
                }
            }
            Step::Settle(which, windows, quotas) if !self.open.is_empty() => {
                let (reservation, n) = self.open.swap_remove(which % self.open.len());
                let admitted = &mut self.log.0[n];
                admitted.windows = admitted.windows.min(windows);
                admitted.quotas = admitted.quotas.min(quotas);
                self.counters
                    .settle(reservation, windows, quotas, &mut |_| {});
            }
            Step::Settle(..) => {}
        }
        let now = after_us(self.us);
        let naive = self.limits.iter().enumerate();
        let naive: Vec<u64> = naive
            .map(|(n, limit)| self.log.counted(n, limit, now.ticks))
            .collect();
        prop_assert_eq!(counted(&self.counters, &self.limits, now), naive);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Over several windows and quotas, in any order, for any cost, with maxima changed in the
    /// middle and other units kept than were reserved: the same calls are admitted, and every
    /// counter stands where the log stands, also after refusals.
    #[test]
    fn counters_admit_exactly_what_a_naive_sliding_log_admits(
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut both = Both {
            counters: MemoryCounters::new(),
            log: NaiveLog::default(),
            open: Vec::new(),
            limits: limits_of([8, 40, 100, 200, 300, 150]),
            us: 0,
        };
        for step in steps {
            both.apply(step)?;
        }
        for (reservation, _) in both.open {
            settle(&both.counters, reservation, 0);
        }
    }
}
