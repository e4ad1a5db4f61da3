//! Civil periods: days, weeks, months and years in a subscriber's time zone.
//!
//! Periods of one kind tile time: every instant lies in exactly one. A calendar period begins at
//! civil midnight; an anniversary period begins at midnight of its anchor's day, clamped to the
//! month's end and always computed from the anchor, never from the period before (so that 31
//! January, 28 February, 31 March follow each other). A midnight that does not exist is the
//! first instant after the gap; one that happens twice is the first of the two.

use jiff::civil::{Date, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, ToSpan};

use crate::{Every, Timestamp};

/// Where periods begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PeriodBasis {
    /// At the calendar's own boundaries.
    #[default]
    Calendar,
    /// On the day of the month (or year, or week) that the subscription began.
    Anniversary,
}

/// A half-open span of wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    /// First instant inside.
    pub start: Timestamp,
    /// First instant outside.
    pub end: Timestamp,
}

impl Period {
    /// Whether the instant lies inside.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }
}

/// The instant lies outside what the calendar can express (years -9999 to 9999).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the instant is outside the calendar")]
pub struct PeriodError;

/// The period of kind `every` that holds `at`.
///
/// # Errors
/// [`PeriodError`] for instants at the edge of the calendar.
pub fn period_at(
    at: Timestamp,
    every: Every,
    basis: PeriodBasis,
    anchor: Date,
    zone: &TimeZone,
) -> Result<Period, PeriodError> {
    let civil = at.to_jiff().to_zoned(zone.clone()).date();
    let anchor = match basis {
        PeriodBasis::Calendar => calendar_anchor(civil, every)?,
        PeriodBasis::Anniversary => anchor,
    };
    let mut n = steps_between(anchor, civil, every);
    // Zone gaps and clamped month ends can put the guess one or two steps off either way.
    for _ in 0..4 {
        let start = midnight(nth(anchor, every, n)?, zone)?;
        let end = midnight(nth(anchor, every, n + 1)?, zone)?;
        if at < start {
            n -= 1;
        } else if at >= end {
            n += 1;
        } else {
            return Ok(Period { start, end });
        }
    }
    Err(PeriodError)
}

/// The first day of the calendar period that holds `day`.
fn calendar_anchor(day: Date, every: Every) -> Result<Date, PeriodError> {
    match every {
        Every::Day => Ok(day),
        Every::Week => {
            let back = i64::from(day.weekday().since(Weekday::Monday));
            day.checked_sub(back.days()).map_err(|_| PeriodError)
        }
        Every::Month => Ok(day.first_of_month()),
        Every::Year => Ok(day.first_of_year()),
    }
}

/// Whole periods from the anchor to the day, give or take one.
fn steps_between(anchor: Date, day: Date, every: Every) -> i64 {
    let days = || {
        anchor
            .until(day)
            .map_or(0, |span| i64::from(span.get_days()))
    };
    let months = i64::from(day.year()) * 12 + i64::from(day.month())
        - (i64::from(anchor.year()) * 12 + i64::from(anchor.month()));
    match every {
        Every::Day => days(),
        Every::Week => days().div_euclid(7),
        Every::Month => months,
        Every::Year => months.div_euclid(12),
    }
}

/// The first day of the n-th period after the anchor.
fn nth(anchor: Date, every: Every, n: i64) -> Result<Date, PeriodError> {
    let span = match every {
        Every::Day => Span::new().try_days(n),
        Every::Week => Span::new().try_weeks(n),
        Every::Month => Span::new().try_months(n),
        Every::Year => Span::new().try_years(n),
    };
    let span = span.map_err(|_| PeriodError)?;
    anchor.checked_add(span).map_err(|_| PeriodError)
}

/// Midnight of a civil day, or the first instant after it where a gap swallows it.
fn midnight(day: Date, zone: &TimeZone) -> Result<Timestamp, PeriodError> {
    let civil = day.at(0, 0, 0, 0);
    let instant = match zone.to_ambiguous_timestamp(civil).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil),
        AmbiguousOffset::Gap { after, .. } => {
            // Read with the later offset, the missing midnight lies before the gap's instant.
            let ahead = after.to_timestamp(civil).map_err(|_| PeriodError)?;
            let gap = zone.following(ahead).next().ok_or(PeriodError)?;
            return Ok(Timestamp(gap.timestamp().as_microsecond()));
        }
    };
    instant
        .map(|at| Timestamp(at.as_microsecond()))
        .map_err(|_| PeriodError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap_or(TimeZone::UTC)
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap_or_default()
    }

    fn starts(
        every: Every,
        anchor: Date,
        zone_name: &str,
        from: &str,
        count: usize,
    ) -> Vec<String> {
        let zone = zone(zone_name);
        let mut now = at(from);
        let mut out = Vec::new();
        for _ in 0..count {
            let period = period_at(now, every, PeriodBasis::Anniversary, anchor, &zone).unwrap();
            out.push(period.start.to_whole_seconds());
            now = period.end;
        }
        out
    }

    #[test]
    fn anniversary_months_keep_their_anchor_day() {
        // Vectors computed with Python's zoneinfo and dateutil.
        let berlin = starts(
            Every::Month,
            date(2026, 1, 31),
            "Europe/Berlin",
            "2026-01-31T12:00:00Z",
            6,
        );
        assert_eq!(
            berlin,
            [
                "2026-01-30T23:00:00Z",
                "2026-02-27T23:00:00Z",
                "2026-03-30T22:00:00Z",
                "2026-04-29T22:00:00Z",
                "2026-05-30T22:00:00Z",
                "2026-06-29T22:00:00Z"
            ]
        );
        let new_york = starts(
            Every::Month,
            date(2028, 1, 30),
            "America/New_York",
            "2028-01-30T12:00:00Z",
            4,
        );
        assert_eq!(
            new_york,
            [
                "2028-01-30T05:00:00Z",
                "2028-02-29T05:00:00Z",
                "2028-03-30T04:00:00Z",
                "2028-04-30T04:00:00Z"
            ]
        );
    }

    #[test]
    fn a_midnight_that_does_not_exist_is_the_first_instant_after_the_gap() {
        let beirut = zone("Asia/Beirut");
        let noon = at("2026-03-29T09:00:00Z");
        let day = period_at(
            noon,
            Every::Day,
            PeriodBasis::Calendar,
            date(2026, 1, 1),
            &beirut,
        )
        .unwrap();
        assert_eq!(day.start.to_whole_seconds(), "2026-03-28T22:00:00Z");
        assert_eq!(day.end.since(day.start), 23 * 3_600_000_000);
    }

    #[test]
    fn periods_tile_time_over_changes_of_the_clock() {
        for name in [
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "UTC",
        ] {
            let zone = zone(name);
            for every in Every::ALL {
                for basis in [PeriodBasis::Calendar, PeriodBasis::Anniversary] {
                    let mut now = at("2011-11-01T00:00:00Z");
                    let stop = at("2013-02-01T00:00:00Z");
                    while now < stop {
                        let period =
                            period_at(now, every, basis, date(2011, 8, 31), &zone).unwrap();
                        assert!(period.contains(now), "{name} {every:?} {basis:?} {now}");
                        let next =
                            period_at(period.end, every, basis, date(2011, 8, 31), &zone).unwrap();
                        assert_eq!(next.start, period.end, "{name} {every:?} {basis:?} {now}");
                        now = period.end;
                    }
                }
            }
        }
    }

    #[test]
    fn a_period_holds_its_start_and_not_its_end() {
        let period = Period {
            start: Timestamp(-5),
            end: Timestamp(7),
        };
        let held = |at: i64| period.contains(Timestamp(at));
        assert_eq!(
            [-6, -5, 0, 6, 7, 8].map(held),
            [false, true, true, true, false, false]
        );
    }

    #[test]
    fn weeks_begin_on_monday() {
        let week = period_at(
            at("2026-11-23T00:00:00Z"),
            Every::Week,
            PeriodBasis::Calendar,
            date(2026, 1, 1),
            &TimeZone::UTC,
        )
        .unwrap();
        assert_eq!(week.start.to_whole_seconds(), "2026-11-23T00:00:00Z");
        assert_eq!(week.end.to_whole_seconds(), "2026-11-30T00:00:00Z");
    }
}
