//! What was used of a period whose time was charged to periods of another calendar: from the store
//! what is over, from the gateway what it still counts.

use tollgate_gateway::GatewayHandle;
use tollgate_metering::Metering;
use tollgate_model::{By, Period, Quota, SubscriptionId, Timestamp};

use super::Moved;

/// Earlier periods of which requests may still be in flight, or units held that no record will
/// ever tell of: those of two days, and one to spare.
const PERIODS_BACK: usize = 3;

/// A period of the calendar before, of which the gateway counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) start: Timestamp,
    /// Σ units of its events from before the new period.
    pub(super) before: u64,
    /// Σ units of all events of its time within the new period, as far as the store tells.
    pub(super) recorded: u64,
}

impl Piece {
    /// Used of the new period in this one's time, where so much is counted on it.
    fn used(&self, counted: u64) -> u64 {
        // What is in flight, or held since a gateway died, is in no record; what was charged to
        // the new period meanwhile is in no counter of this one.
        counted.saturating_sub(self.before).max(self.recorded)
    }
}

/// What was used of a new period, but for what the gateway counts.
#[derive(Debug, Clone)]
pub(super) struct Used {
    /// The period before, at the moment of reading.
    pub(super) old: Period,
    /// The period at that moment.
    pub(super) new: Period,
    /// Σ units of its events that lie before all pieces.
    pub(super) earlier: u64,
    /// Latest first.
    pub(super) pieces: Vec<Piece>,
    /// Counted on the new period when this was read.
    pub(super) already: u64,
}

impl Used {
    /// Used of the new period, where so much is counted on periods that began then.
    pub(super) fn units(&self, counted: impl Fn(Timestamp) -> u64) -> u64 {
        let used = |piece: &Piece| piece.used(counted(piece.start));
        let units = self.pieces.iter().map(used);
        units.fold(self.earlier, u64::saturating_add)
    }

    /// The two begin together, hence share a counter: whatever is used is counted.
    pub(super) fn is_counted(&self) -> bool {
        self.old.start == self.new.start
    }
}

/// Where it is read.
pub(super) struct Sources<'a> {
    pub(super) gateway: &'a GatewayHandle,
    pub(super) metering: &'a Metering,
}

impl Sources<'_> {
    /// Units counted on the period that began then.
    pub(super) fn counted(&self, id: &SubscriptionId, start: Timestamp) -> u64 {
        self.find(id, start).unwrap_or(0)
    }

    /// The same; `None` where nothing is known of it here, or not any more.
    fn find(&self, id: &SubscriptionId, start: Timestamp) -> Option<u64> {
        let found = self
            .gateway
            .find_quota(By::Subscription, id.as_str(), start);
        let used = found.map(|quota| quota.used);
        used.filter(|used| *used < Quota::UNITS_LARGEST)
    }

    /// What was used at this moment. `late`: the new calendar is in force already.
    ///
    /// # Errors
    /// The store's failures.
    pub(super) async fn used(
        &self,
        one: &Moved,
        now: Timestamp,
        late: bool,
    ) -> anyhow::Result<Used> {
        let id = &one.subscription;
        let (old, new) = (one.before.at(now)?, one.after.at(now)?);
        let mut periods = vec![old];
        while let Some(last) = periods.last().copied()
            && periods.len() <= PERIODS_BACK
            && last.start > new.start
        {
            periods.push(one.before.at(last.start.plus_us(-1))?);
        }
        // Of those further back the store knows all.
        while periods.len() > 1
            && let Some(last) = periods.last()
            && self.find(id, last.start).is_none()
        {
            periods.pop();
        }
        let mut pieces = Vec::with_capacity(periods.len());
        for period in &periods {
            let (from, to) = (period.start.max(new.start), period.end.min(now.plus_us(1)));
            // Until the catalog is published, everything of this moment is charged to the period
            // before: its counter tells more than the store.
            let counted = !late && *period == old;
            let recorded = if counted {
                0
            } else {
                self.units(id, from, to).await?
            };
            pieces.push(Piece {
                start: period.start,
                before: self.units(id, period.start, from).await?,
                recorded,
            });
        }
        let first = pieces.last().map_or(new.start, |piece| piece.start);
        Ok(Used {
            old,
            new,
            earlier: self.units(id, new.start, first).await?,
            pieces,
            already: self.counted(id, new.start),
        })
    }

    async fn units(
        &self,
        id: &SubscriptionId,
        from: Timestamp,
        to: Timestamp,
    ) -> anyhow::Result<u64> {
        let units = self.metering.units_of_subscription(id, from, to);
        Ok(units.await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    fn period(start_day: i64, days: i64) -> Period {
        let start = Timestamp(start_day * DAY_US);
        Period {
            start,
            end: start.plus_us(days * DAY_US),
        }
    }

    fn piece(of: Period, before: u64, recorded: u64) -> Piece {
        Piece {
            start: of.start,
            before,
            recorded,
        }
    }

    #[test]
    fn used_is_the_sum_of_the_new_period_whichever_began_first() {
        // The twelfth of a month: 70 units before today, 5 today, of which 1 is in flight.
        let (month, yesterday, day) = (period(0, 30), period(10, 1), period(11, 1));
        let used = |old, new, earlier, pieces| Used {
            old,
            new,
            earlier,
            pieces,
            already: 0,
        };
        let counted = |units: u64| move |start| if start == day.start { 5 } else { units };
        let of_month = used(day, month, 70, vec![piece(day, 0, 0)]);
        assert_eq!(of_month.units(counted(0)), 75);
        let of_day = used(month, day, 0, vec![piece(month, 70, 0)]);
        assert_eq!(of_day.units(counted(75)), 5);
        // More is recorded of the past than was counted: nothing of today is known to be used.
        assert_eq!(of_day.units(counted(60)), 0);
        // Two units of yesterday are in no record: in flight, or held since a gateway died.
        let pieces = vec![piece(day, 0, 0), piece(yesterday, 0, 10)];
        let of_month = used(day, month, 60, pieces);
        assert_eq!(of_month.units(counted(12)), 77);
        // Charged to the month after the catalog, and recorded: the day's counter lacks them.
        let late = used(day, month, 70, vec![piece(day, 0, 9)]);
        assert_eq!(late.units(counted(0)), 79);
    }
}
