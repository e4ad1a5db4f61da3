//! Against a naive sliding log, at random times.

use super::*;
use proptest::prelude::*;
use tollgate_admission::slot_at;

/// A list of everything that was ever admitted, asked from the beginning each time.
#[derive(Default)]
struct NaiveLog(Vec<Admitted>);

struct Admitted {
    at: Ticks,
    windows: u64,
    quotas: u64,
}

impl NaiveLog {
    fn counted(&self, limit: &Applicable, now: Ticks) -> u64 {
        match limit.rule {
            Rule::Window { per, .. } => {
                let live = |a: &&Admitted| slot_at(per, now) - slot_at(per, a.at) <= 60;
                self.0.iter().filter(live).map(|a| a.windows).sum()
            }
            Rule::Quota { .. } => self.0.iter().map(|a| a.quotas).sum(),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Reserve(u64),
    Settle(usize, u64, u64),
    Evict,
    Maxima(u32, u32, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..1_500_000).prop_map(Step::Pass),
        1 => (0u64..90_000_000).prop_map(Step::Pass),
        8 => (0u64..6).prop_map(Step::Reserve),
        6 => (0usize..1_000, 0u64..8, 0u64..8).prop_map(|(n, w, q)| Step::Settle(n, w, q)),
        1 => Just(Step::Evict),
        1 => (0u32..20, 0u32..60, 0u64..400).prop_map(|(s, m, q)| Step::Maxima(s, m, q)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn counters_admit_exactly_what_a_naive_sliding_log_admits(
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let counters = MemoryCounters::new();
        let mut log = NaiveLog::default();
        let mut open: Vec<(Reservation, usize)> = Vec::new();
        let mut limits = [
            window(1, Per::Second, 8),
            window(2, Per::Minute, 40),
            quota(3, 300, Some(300)),
        ];
        let mut us = 0;
        for step in steps {
            let now = after_us(us);
            match step {
                Step::Pass(passed) => us += passed,
                Step::Evict => {
                    counters.evict(now);
                }
                Step::Maxima(second, minute, units) => {
                    limits = [
                        window(1, Per::Second, second),
                        window(2, Per::Minute, minute),
                        quota(3, units, Some(units)),
                    ];
                }
                Step::Reserve(cost) => {
                    let admits = limits.iter().all(|limit| {
                        !limit.refuses(log.counted(limit, now.ticks), cost)
                    });
                    let answer = reserve(&counters, &limits, cost, now);
                    prop_assert_eq!(answer.is_ok(), admits);
                    if let Ok(reservation) = answer {
                        open.push((reservation, log.0.len()));
                        log.0.push(Admitted { at: now.ticks, windows: cost, quotas: cost });
                    }
                }
                Step::Settle(which, windows, quotas) if !open.is_empty() => {
                    let (reservation, n) = open.swap_remove(which % open.len());
                    log.0[n].windows = log.0[n].windows.min(windows);
                    log.0[n].quotas = log.0[n].quotas.min(quotas);
                    counters.settle(reservation, windows, quotas, &mut |_| {});
                }
                Step::Settle(..) => {}
            }
            let naive: Vec<u64> = limits.iter()
                .map(|limit| log.counted(limit, after_us(us).ticks))
                .collect();
            prop_assert_eq!(counted(&counters, &limits, after_us(us)), naive);
        }
        for (reservation, _) in open {
            settle(&counters, reservation, 0);
        }
    }
}
