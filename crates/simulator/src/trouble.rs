//! What goes wrong in a step: the clock is set, the store fails, the disk fails or fills up.

use tollgate_journal::testing::Fault;

use crate::shelf::Weather;
use crate::truth::Checked;
use crate::world::World;

const SECOND_US: u64 = 1_000_000;

impl World {
    pub(crate) fn set_wall(&mut self) -> Checked {
        let hours = i64::try_from(self.dice.below(30)).unwrap_or(0);
        match self.dice.below(6) {
            0 => self.clock.freeze(true),
            1 | 2 => self.clock.freeze(false),
            3 => self.clock.step_wall_us(-hours * 360_000_000),
            4 => self.clock.step_wall_us(hours * 360_000_000),
            _ => self
                .clock
                .step_wall_us(-(self.dice.below(SECOND_US) as i64)),
        }
        self.say(|| "somebody set the clock".into());
        Ok(())
    }

    pub(crate) fn change_weather(&mut self) -> Checked {
        let weather = match self.dice.below(5) {
            0 => Weather::Away,
            1 | 2 => Weather::AnswerLost,
            3 => Weather::Contended,
            _ => Weather::Choosy(1 + self.dice.index(5)),
        };
        let calls = 1 + self.dice.below(12) as u32;
        self.shelf.set_weather(weather, calls);
        self.say(|| format!("the store is {weather:?} for {calls} calls"));
        Ok(())
    }

    fn fault(&self) -> Fault {
        match self.dice.below(6) {
            0 => Fault::Full,
            1 => Fault::Interrupted,
            2 => Fault::Short(1 + self.dice.index(300)),
            3 => Fault::Torn(self.dice.index(300)),
            _ => Fault::Io,
        }
    }

    pub(crate) fn trouble_disk(&mut self) -> Checked {
        let fault = self.fault();
        match self.dice.below(8) {
            0 => self.disk.fault_always(Some(Fault::Io)),
            1 | 2 => self.disk.clear_faults(),
            _ => {
                let after = 1 + self.dice.below(12);
                self.disk.fault_at(after, fault);
            }
        }
        self.say(|| format!("the disk: {fault:?}"));
        Ok(())
    }

    pub(crate) fn fill_disk(&mut self) -> Checked {
        let room = self
            .dice
            .once_in(2)
            .then(|| 200_000 + self.dice.below(800_000));
        self.disk.set_bytes_max(room);
        self.say(|| format!("the disk holds {room:?} bytes"));
        Ok(())
    }

    pub(crate) fn kill_soon(&mut self) -> Checked {
        let after = 1 + self.dice.below(20);
        self.disk.fault_at(after, Fault::Kill);
        self.say(|| format!("killed at its next operation but {after}"));
        Ok(())
    }
}
