//! What can happen in a step.

use std::net::{IpAddr, Ipv4Addr};

use tollgate_gateway::by_hand::Asked;
use tollgate_model::{CatalogSink, Every, Outcome, Timestamp};

use crate::life::Aloft;
use crate::market::{Call, Market, Price, ROUTES_EACH, SUBSCRIPTIONS};
use crate::truth::Checked;
use crate::world::{ADDRESSES, World};

/// Most requests in flight.
const ALOFT_MAX: usize = 24;
const SECOND_US: u64 = 1_000_000;
const STATUSES: [u16; 10] = [200, 200, 200, 200, 201, 304, 404, 429, 500, 503];

impl World {
    /// One step.
    pub(crate) fn act(&mut self) -> Checked {
        self.clock.advance_us(20 + self.dice.below(2_000));
        self.truth.see(self.now());
        match self.dice.below(1_000) {
            0..440 => self.call(),
            440..790 => self.go_on(),
            790..850 => self.let_time_pass(),
            850..905 => self.sync(),
            905..925 => self.turn(),
            925..935 => self.checkpoint(),
            935..962 => self.ship(),
            962..967 => self.purge(),
            967..974 => self.change_catalog(),
            974..978 => self.flip_key(),
            978..985 => self.set_wall(),
            985..990 => self.change_weather(),
            990..994 => self.trouble_disk(),
            994..996 => self.fill_disk(),
            996 => self.kill(),
            997 => self.kill_soon(),
            998 => self.lose_power(),
            _ => self.stop_sometimes(),
        }
    }

    fn call(&mut self) -> Checked {
        let call = Call {
            holder: self.dice.index(self.callers),
            route: self.dice.index(ROUTES_EACH),
            address: self.dice.index(ADDRESSES),
        };
        if self
            .life
            .as_ref()
            .is_some_and(|life| life.aloft.len() >= ALOFT_MAX)
        {
            return self.go_on();
        }
        self.ask(call).map(drop)
    }

    /// A request arrives; whether it passed.
    pub(crate) fn ask(&mut self, call: Call) -> Result<bool, String> {
        let now = self.now();
        let thread = u16::try_from(self.dice.index(self.gateway.workers)).unwrap_or(0);
        let address = Ipv4Addr::new(10, 0, 0, u8::try_from(call.address).unwrap_or(0));
        let asked = match (&self.life, self.head(call)) {
            (Some(life), Some(head)) => life.gateway.ask(thread, head, IpAddr::V4(address)),
            _ => None,
        };
        let (id, asked) = asked.ok_or("there is no such thread")?;
        match asked {
            Asked::Admitted(flight) => {
                // Dead before the gate answered: nothing was forwarded.
                if !self.alive() {
                    return Ok(false);
                }
                let periods = flight.periods();
                self.say(|| format!("{id:?} admitted: {call:?}"));
                self.truth.admit(&self.market, id, call, now, periods)?;
                let sent = !self.dice.once_in(20);
                flight.set_sent(sent);
                let aloft = Aloft {
                    id,
                    flight,
                    call,
                    price: Market::price(call),
                    sent,
                    head: None,
                    stated: None,
                };
                if let Some(life) = &mut self.life {
                    life.aloft.push(aloft);
                }
                Ok(true)
            }
            Asked::Refused {
                code,
                ack,
                recorded,
                limit,
            } => {
                self.say(|| format!("{id:?} refused: {code:?} {limit:?} {call:?}"));
                if !self.alive() {
                    self.truth.turn_away(id, call, now)?;
                    return Ok(false);
                }
                self.truth.refuse(&self.market, id, call, now, code)?;
                if recorded {
                    self.heed(id, ack);
                }
                Ok(false)
            }
            Asked::Own => Err("the gateway answered a call of an API by itself".into()),
        }
    }

    /// Something happens to a request in flight.
    fn go_on(&mut self) -> Checked {
        let count = self.life.as_ref().map_or(0, |life| life.aloft.len());
        if count == 0 {
            return Ok(());
        }
        let place = self.dice.index(count);
        let (status, stated) = (self.dice.pick(&STATUSES, 200), self.dice.below(10));
        let choice = self.dice.below(100);
        let Some(one) = self
            .life
            .as_mut()
            .and_then(|life| life.aloft.get_mut(place))
        else {
            return Ok(());
        };
        if one.sent && one.head.is_none() && choice < 60 {
            one.head = Some(status);
            one.flight.head_arrived(status);
            return Ok(());
        }
        if one.head.is_some() && choice < 15 && one.price.most.is_some() {
            one.stated = Some(stated);
            one.flight.state_cost(stated);
            return Ok(());
        }
        if choice < 20 {
            one.flight.pass_bytes(1 << 24);
            return Ok(());
        }
        let outcome = match (one.head, choice) {
            (Some(_), 20..80) => Outcome::Forwarded,
            (_, 80..90) => Outcome::ClientClosed,
            (None, 60..80) if one.sent => return Ok(()),
            _ => Outcome::UpstreamError,
        };
        self.finish(place, outcome)
    }

    /// A request in flight ends.
    pub(crate) fn finish(&mut self, place: usize, wanted: Outcome) -> Checked {
        let Some(life) = self.life.as_mut().filter(|life| place < life.aloft.len()) else {
            return Ok(());
        };
        let one = life.aloft.swap_remove(place);
        let outcome = if one.flight.must_end() {
            Outcome::Cut
        } else {
            wanted
        };
        let kept = kept(one.price, outcome, one.sent, one.head, one.stated);
        let now = self.now();
        let id = one.id;
        let ack = one.flight.finish(wanted);
        self.truth.end(id, outcome, kept, now);
        self.heed(id, ack);
        self.say(|| format!("{id:?} ended: {outcome:?}, keeps {kept:?}, {:?}", one.call));
        Ok(())
    }

    /// Every request in flight ends well.
    pub(crate) fn end_all(&mut self) -> Checked {
        while let Some(life) = self.life.as_mut().filter(|life| !life.aloft.is_empty()) {
            let place = life.aloft.len() - 1;
            if let Some(one) = life.aloft.get_mut(place)
                && one.sent
                && one.head.is_none()
            {
                one.head = Some(200);
                one.flight.head_arrived(200);
            }
            let sent = life.aloft.get(place).is_some_and(|one| one.sent);
            let outcome = if sent {
                Outcome::Forwarded
            } else {
                Outcome::UpstreamError
            };
            self.finish(place, outcome)?;
        }
        Ok(())
    }

    fn let_time_pass(&mut self) -> Checked {
        let us = match self.dice.below(100) {
            0..70 => self.dice.below(50_000),
            70..85 => self.dice.below(5 * SECOND_US),
            85..95 => self.dice.below(90 * SECOND_US),
            95..98 => self.dice.below(3_600 * SECOND_US),
            98 => self.dice.below(86_400 * SECOND_US),
            _ => self.to_edge_of_period(),
        };
        self.clock.advance_us(us);
        Ok(())
    }

    /// Until around the end of some period.
    fn to_edge_of_period(&self) -> u64 {
        let now = self.now().wall;
        let subscription = self.dice.index(SUBSCRIPTIONS);
        let every = self.dice.pick(
            &[Every::Day, Every::Day, Every::Week, Every::Month],
            Every::Day,
        );
        let end = self
            .market
            .period(subscription, every, now)
            .map_or(now.0, |p| p.1);
        let left = u64::try_from(Timestamp(end).since(now)).unwrap_or(0);
        (left + self.dice.below(3)).saturating_sub(self.dice.below(2 * SECOND_US))
    }

    pub(crate) fn sync(&mut self) -> Checked {
        let mut whole = false;
        let mut told = None;
        if let Some(life) = &self.life {
            let journal = life.gateway.journal();
            journal.sync();
            let status = journal.status();
            whole = status.unsynced_bytes == 0;
            told = Some(status);
        }
        self.say(|| format!("synced: {told:?}"));
        if self.alive() {
            if whole {
                self.truth.all_synced();
            }
            self.poll_waiting();
        }
        Ok(())
    }

    pub(crate) fn turn(&mut self) -> Checked {
        if let Some(life) = &self.life {
            life.gateway.turn();
        }
        self.seed_quotas();
        loop {
            let mut all = self.life.iter().flat_map(|life| &life.aloft);
            let Some(place) = all.position(|one| one.flight.must_end()) else {
                return Ok(());
            };
            self.finish(place, Outcome::ClientClosed)?;
        }
    }

    pub(crate) fn checkpoint(&mut self) -> Checked {
        let Some(life) = &self.life else {
            return Ok(());
        };
        let written = life.gateway.checkpoint();
        let evicted = if self.dice.once_in(4) {
            life.gateway.evict()
        } else {
            0
        };
        self.poll_waiting();
        self.say(|| format!("checkpoint: {written:?}, {evicted} evicted"));
        Ok(())
    }

    /// One pass of the shipper; whether it went through.
    pub(crate) fn try_ship(&mut self) -> Result<bool, String> {
        let passed = match (&self.life, &self.runtime) {
            (Some(life), Some(runtime)) => runtime.block_on(life.shipper.pass()),
            _ => return Err("there is no runtime".into()),
        };
        self.collect()?;
        if let Some(life) = self.life.as_ref().filter(|_| self.alive()) {
            let status = life.shipper.status();
            if status.quarantined > 0 || (status.unreadable > 0 && !self.powerless) {
                return Err(format!("the shipper gave events up: {status:?}"));
            }
        }
        let told = passed.as_ref().map_err(ToString::to_string).copied();
        self.say(|| format!("shipped: {told:?}"));
        Ok(passed.is_ok())
    }

    fn ship(&mut self) -> Checked {
        self.try_ship().map(drop)
    }

    pub(crate) fn purge(&mut self) -> Checked {
        if let Some(life) = &self.life {
            let purged = life.gateway.journal().purge();
            self.say(|| format!("purged: {purged}"));
        }
        Ok(())
    }

    fn change_catalog(&mut self) -> Checked {
        let catalog = self.market.change_limits(&self.dice);
        if let Some(life) = &self.life {
            life.gateway.handle().publish_catalog(catalog);
        }
        self.say(|| "limits changed".into());
        Ok(())
    }

    fn flip_key(&mut self) -> Checked {
        let holder = self.dice.index(self.market.holders.len());
        let delta = self.market.flip_key(holder);
        if let Some(life) = &self.life {
            life.gateway.handle().publish_keys(delta);
        }
        let revoked = self.market.is_revoked(holder);
        self.say(|| format!("key {holder} revoked: {revoked}"));
        self.turn()
    }

    fn stop_sometimes(&mut self) -> Checked {
        if self.dice.once_in(2) {
            return self.stop();
        }
        self.kill()
    }
}

/// What a call keeps, by docs/rules.md, 4: units on windows, units on quotas.
fn kept(
    price: Price,
    outcome: Outcome,
    sent: bool,
    head: Option<u16>,
    stated: Option<u64>,
) -> (u64, u64) {
    let reserved = price.reserved();
    if !sent {
        return (0, 0);
    }
    let stated = price
        .most
        .and_then(|most| stated.map(|units| units.min(most)));
    let whole = outcome == Outcome::Forwarded;
    let actual = stated.unwrap_or(if whole { price.cost } else { reserved });
    let charged = head.map(|status| (200..500).contains(&status));
    match (outcome, charged) {
        (Outcome::UpstreamError, _) | (_, Some(false)) => (actual, 0),
        (_, None) => (reserved, reserved),
        (_, Some(true)) => (actual, actual),
    }
}
