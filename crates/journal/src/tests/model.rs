//! Random lives of a journal against a model that only remembers what it was told.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::{Fault, PowerCut};

#[derive(Debug, Clone)]
enum Action {
    Append(u8),
    Sync,
    Checkpoint,
    Ship,
    Purge,
    Fault(u8, Fault),
    DiskFails(bool),
    DiskFull(bool),
    Close,
    Kill,
    CutPower(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let fault = prop_oneof![
        Just(Fault::Io),
        Just(Fault::Full),
        Just(Fault::Quota),
        Just(Fault::Interrupted),
        (1usize..600).prop_map(Fault::Short),
        (0usize..600).prop_map(Fault::Torn),
        Just(Fault::Kill),
    ];
    let action = prop_oneof![
        12 => (1u8..80).prop_map(Action::Append),
        5 => Just(Action::Sync),
        3 => Just(Action::Checkpoint),
        2 => Just(Action::Ship),
        2 => Just(Action::Purge),
        4 => (1u8..20, fault).prop_map(|(n, fault)| Action::Fault(n, fault)),
        1 => any::<bool>().prop_map(Action::DiskFails),
        1 => any::<bool>().prop_map(Action::DiskFull),
        1 => Just(Action::Close),
        2 => Just(Action::Kill),
        2 => any::<u64>().prop_map(Action::CutPower),
    ];
    prop::collection::vec(action, 1..60)
}

/// What is known of one stream.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Sequences whose append said that the kernel has them.
    acknowledged: Vec<u64>,
    given: u64,
    synced: u64,
    shipped: u64,
}

struct World {
    bench: Bench,
    journal: Option<(Journal, Writer)>,
    streams: BTreeMap<StreamId, Known>,
    epoch: u64,
    node: Option<String>,
    /// Whether the power was ever cut: of what was not synced, later parts may survive earlier.
    cut: bool,
    life: u64,
}

impl World {
    fn new() -> Self {
        let mut bench = Bench::new();
        bench.options.segment_bytes = 16 * 1024;
        bench.options.disk_bytes_max = 1 << 20;
        bench.options.keep_us = 1_000;
        Self {
            bench,
            journal: None,
            streams: BTreeMap::new(),
            epoch: 0,
            node: None,
            cut: false,
            life: 0,
        }
    }

    /// Several faults can hit all tries of one read: what then passes for damaged must be whole for
    /// the next start.
    fn open(&mut self) -> Option<(Journal, Recovered)> {
        let opened = self.bench.try_open(1).ok()?;
        if self.cut || opened.1.damage.spots.is_empty() {
            return Some(opened);
        }
        self.bench.disk.kill();
        drop(opened);
        self.bench.disk.clear_faults();
        self.life = self.bench.disk.lives() + 1;
        self.bench.try_open(1).ok()
    }

    /// Opens if need be; `None` while the disk does not let it.
    fn writer(&mut self) -> Option<&mut Writer> {
        if self.journal.is_none() {
            self.life = self.bench.disk.lives() + 1;
            let (journal, recovered) = self.open()?;
            assert!(recovered.epoch > self.epoch, "an epoch came twice");
            self.epoch = recovered.epoch;
            let node = recovered.node.as_str().to_owned();
            assert_eq!(self.node.get_or_insert(node.clone()), &node);
            let holes = if self.cut {
                &[][..]
            } else {
                &recovered.damage.spots
            };
            assert!(holes.is_empty(), "no bytes were damaged: {holes:?}");
            let writer = journal.writer(0).unwrap();
            self.streams
                .insert(writer.stream().clone(), Known::default());
            self.journal = Some((journal, writer));
            self.check();
        }
        self.journal.as_mut().map(|(_, writer)| writer)
    }

    fn known(&mut self) -> &mut Known {
        let epoch = self.epoch;
        let found = self.streams.iter_mut().find(|(id, _)| id.epoch == epoch);
        found.map(|(_, known)| known).unwrap()
    }

    fn append(&mut self, count: u8) {
        for _ in 0..count {
            self.bench.clock.advance(100);
            let Some(writer) = self.writer() else {
                return;
            };
            let Ok(room) = writer.reserve(512) else {
                return;
            };
            let next = writer.next_sequence().0;
            let told = writer.append(room, &entry(next));
            let known = self.known();
            if let Ok(sequence) = told {
                known.acknowledged.push(sequence.0);
            }
            known.given = next + 1;
        }
    }

    fn sync(&mut self) {
        if self.writer().is_none() {
            return;
        }
        if let Some((journal, _)) = &self.journal {
            journal.sync();
            let status = journal.status();
            if status.unsynced_bytes == 0 {
                let known = self.known();
                known.synced = known.given;
            }
        }
    }

    fn checkpoint(&mut self) {
        if self.writer().is_none() {
            return;
        }
        let given = self.known().given;
        if let Some((journal, _)) = &self.journal
            && self.bench.checkpoint(journal, given).is_ok()
        {
            self.known().synced = given;
        }
    }

    fn ship(&mut self) {
        if self.writer().is_none() {
            return;
        }
        if let Some((journal, _)) = &self.journal {
            let reader = journal.reader();
            for info in reader.streams() {
                // What is confirmed was read; reading is what may go.
                reader.shipped(&info.id, info.next);
                if let Some(known) = self.streams.get_mut(&info.id) {
                    known.shipped = known.shipped.max(info.next.0);
                }
            }
        }
    }

    fn end(&mut self) {
        self.bench.disk.kill();
        self.journal = None;
    }

    fn cut_power(&mut self, seed: u64) {
        self.bench.disk.cut_power(PowerCut::Random(seed));
        self.journal = None;
        self.cut = true;
        for known in self.streams.values_mut() {
            // The rest may be lost; from now on whatever is found must stay.
            let synced = known.synced;
            known.acknowledged.retain(|sequence| *sequence < synced);
        }
    }

    fn step(&mut self, action: &Action) {
        match action {
            Action::Append(count) => self.append(*count),
            Action::Sync => self.sync(),
            Action::Checkpoint => self.checkpoint(),
            Action::Ship => self.ship(),
            Action::Purge => {
                self.bench.clock.advance(10_000);
                if let Some((journal, _)) = &self.journal {
                    journal.purge();
                }
            }
            Action::Fault(n, fault) => self.bench.disk.fault_at(u64::from(*n), *fault),
            Action::DiskFails(fails) => {
                self.bench.disk.fault_always(fails.then_some(Fault::Io));
            }
            Action::DiskFull(full) => {
                self.bench.disk.set_bytes_max(full.then_some(0));
            }
            Action::Close => {
                if let Some((journal, _)) = self.journal.take()
                    && journal.close().is_ok()
                {
                    let known = self.known();
                    known.synced = known.given;
                }
            }
            Action::Kill => self.end(),
            Action::CutPower(seed) => self.cut_power(*seed),
        }
    }

    /// Nothing acknowledged lost, nothing altered, nothing twice, nothing invented.
    fn check(&self) {
        let Some((journal, _)) = &self.journal else {
            return;
        };
        if self.life != self.bench.disk.lives() {
            return; // Killed meanwhile: the next life is checked.
        }
        self.bench.disk.pause(true);
        let reader = journal.reader();
        for info in reader.streams() {
            assert!(
                self.streams.contains_key(&info.id),
                "invented {:?}",
                info.id
            );
        }
        for (id, known) in &self.streams {
            let info = reader.streams().into_iter().find(|info| &info.id == id);
            let first = info.as_ref().map_or(u64::MAX, |info| info.first.0);
            let (entries, _) = read_all(&reader, id);
            for (sequence, found) in &entries {
                assert!(sequence.0 < known.given, "invented {sequence:?} in {id:?}");
                assert_eq!(found, &entry(sequence.0), "altered in {id:?}");
            }
            assert!(
                entries.windows(2).all(|pair| pair[0].0 < pair[1].0),
                "twice"
            );
            let found: std::collections::HashSet<u64> = entries.iter().map(|(s, _)| s.0).collect();
            for sequence in &known.acknowledged {
                let deleted = *sequence < first && *sequence < known.shipped;
                let there = found.contains(sequence) || deleted;
                assert!(there, "lost {sequence} of {id:?}, {known:?}");
            }
        }
        self.bench.disk.pause(false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn over_random_lives_nothing_acknowledged_is_lost_altered_or_doubled(actions in actions()) {
        let mut world = World::new();
        for action in &actions {
            world.step(action);
        }
        world.bench.disk.clear_faults();
        world.bench.disk.set_bytes_max(None);
        world.end();
        prop_assert!(world.writer().is_some(), "a healthy disk opens");
        world.append(5);
        world.sync();
        world.check();
        let reader = world.journal.as_ref().map(|(journal, _)| journal.reader()).unwrap();
        prop_assert!(world.cut || reader.damage().is_clean(), "{:?}", reader.damage());
    }
}
