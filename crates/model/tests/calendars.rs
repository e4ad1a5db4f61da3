//! Periods in every zone of the IANA database, against what Python's `zoneinfo` and `dateutil`
//! say (`calendars/expect.py` made the two tables and says how), and against themselves: periods
//! of one kind tile time, no instant lies in none or in two.
//!
//! `TOLLGATE_CALENDAR_YEARS` of 21 compares every day of 2015 to 2035 and asks around each single
//! boundary; without it (2) days are compared over two years, and boundaries are asked around in
//! months, years and odd days. `TOLLGATE_SEED` replays the random instants of a run.

use std::collections::BTreeSet;
use std::io::Write as _;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};
use tollgate_model::{Every, Period, PeriodBasis, Timestamp, period_at};

const CHECKSUMS: &str = include_str!("calendars/checksums.tsv");
const ROWS: &str = include_str!("calendars/rows.tsv");

const SECOND_US: i64 = 1_000_000;
const DAY_S: i64 = 86_400;
/// Years over which days are compared in the full form.
const WHOLE_YEARS: i64 = 21;

/// The periods of one kind that hold an instant of `[from, to)`.
#[derive(Debug, Clone, Copy)]
struct Series {
    every: Every,
    basis: PeriodBasis,
    anchor: Date,
    from: Timestamp,
    to: Timestamp,
}

impl Series {
    /// Reads `KIND BASIS FROM TO`, as `expect.py` writes it.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let every = match words.next()? {
            "day" => Every::Day,
            "week" => Every::Week,
            "month" => Every::Month,
            "year" => Every::Year,
            _ => return None,
        };
        let (basis, anchor) = match words.next()? {
            // The anchor must not matter here.
            "calendar" => (PeriodBasis::Calendar, Date::constant(1999, 5, 17)),
            day => (PeriodBasis::Anniversary, day.parse().ok()?),
        };
        let (from, to) = (words.next()?, words.next()?);
        Some(Self {
            every,
            basis,
            anchor,
            from: Timestamp::parse(&format!("{from}T00:00:00Z")).ok()?,
            to: Timestamp::parse(&format!("{to}T00:00:00Z")).ok()?,
        })
    }

    fn at(&self, at: Timestamp, zone: &TimeZone) -> Option<Period> {
        period_at(at, self.every, self.basis, self.anchor, zone).ok()
    }

    /// The periods from one to the next. An error names the period that does not hold the instant
    /// it was asked for, or does not begin where the one before ended.
    fn walk(&self, zone: &TimeZone) -> Result<Vec<Period>, String> {
        let mut periods: Vec<Period> = Vec::new();
        let mut now = self.from;
        while now < self.to {
            let period = self.at(now, zone).ok_or(format!("none at {now}"))?;
            let joined = periods.last().is_none_or(|last| last.end == period.start);
            if !joined || !period.contains(now) {
                return Err(format!("{period:?} is answered for {now}"));
            }
            now = period.end;
            periods.push(period);
        }
        Ok(periods)
    }

    /// Just before, at and after each boundary, and at a random instant inside, the period that
    /// the walk found is answered.
    fn probe(&self, zone: &TimeZone, periods: &[Period], random: &mut u64) -> Result<u64, String> {
        let mut asked = 0;
        for period in periods {
            let length = period.end.0.abs_diff(period.start.0);
            let inside = i64::try_from(next(random) % length).unwrap_or(0);
            for at in [0, 1, inside, -1] {
                let at = match at {
                    -1 => Timestamp(period.end.0 - 1),
                    _ => Timestamp(period.start.0 + at),
                };
                let answered = self.at(at, zone);
                asked += 1;
                if answered != Some(*period) {
                    return Err(format!("{answered:?} instead of {period:?} at {at}"));
                }
            }
        }
        Ok(asked)
    }
}

/// Every ten minutes from a period's start: the whole of a day that is not 24 hours long, else three
/// hours. Where clocks fall back over midnight they show the day before once more, and the period
/// has begun all the same.
fn slow_walk(series: &Series, period: &Period) -> impl Iterator<Item = Timestamp> + use<> {
    const STEP_US: i64 = 600 * SECOND_US;
    let odd = series.every == Every::Day && length_s(period) != DAY_S;
    let length_us = period.end.0 - period.start.0;
    let steps = if odd { length_us / STEP_US } else { 18 };
    let start = period.start.0;
    (0..steps).map(move |step| Timestamp(start + step * STEP_US))
}

/// xorshift64*: enough to scatter instants.
fn next(random: &mut u64) -> u64 {
    *random ^= *random >> 12;
    *random ^= *random << 25;
    *random ^= *random >> 27;
    random.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

fn setting(name: &str, default: i64) -> i64 {
    let text = std::env::var(name).unwrap_or_default();
    text.parse().unwrap_or(default)
}

fn length_s(period: &Period) -> i64 {
    (period.end.0 - period.start.0) / SECOND_US
}

/// First 8 bytes of SHA-256 over all starts in Unix seconds, little-endian.
fn checksum(periods: &[Period]) -> String {
    let mut hash = Sha256::new();
    for period in periods {
        hash.update((period.start.0 / SECOND_US).to_le_bytes());
    }
    let bytes = hash.finalize();
    bytes.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// As in `rows.tsv`: of days those that are not 24 hours long, of others every start.
fn row(series: &Series, periods: &[Period]) -> String {
    let minute = |period: &Period| period.start.to_whole_seconds().replace(":00Z", "Z");
    let cells: Vec<String> = match series.every {
        Every::Day => periods
            .iter()
            .filter(|period| length_s(period) != DAY_S)
            .map(|period| format!("{}/{}", minute(period), length_s(period)))
            .collect(),
        _ => periods.iter().map(minute).collect(),
    };
    cells.join(" ")
}

/// The lines of a table below its comment.
fn lines(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('\t').collect())
}

fn zone_names() -> Vec<&'static str> {
    lines(CHECKSUMS)
        .skip(1)
        .filter_map(|cells| cells.first().copied())
        .collect()
}

#[test]
fn the_zones_are_those_of_the_iana_database() {
    let ours: BTreeSet<String> = jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .collect();
    let theirs: BTreeSet<String> = zone_names().into_iter().map(str::to_owned).collect();
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let unknown: Vec<_> = ours.difference(&theirs).collect();
    println!(
        "{} zones, of those expected without: {missing:?}, beyond: {unknown:?}",
        ours.len()
    );
    assert!(theirs.len() > 590, "{} zones are expected", theirs.len());
    assert_eq!((missing, unknown), (vec![], vec![]));
}

#[test]
fn periods_of_every_zone_begin_where_python_says_and_tile_time() {
    let years = setting("TOLLGATE_CALENDAR_YEARS", 2);
    let seed = setting("TOLLGATE_SEED", 1).unsigned_abs().max(1);
    let mut random = seed;
    let mut table = lines(CHECKSUMS);
    let head = table.next().unwrap();
    let series: Vec<(&str, Series)> = head[1..]
        .iter()
        .map(|text| (*text, Series::parse(text).unwrap()))
        .collect();
    let (mut zones, mut seen, mut asked) = (0, 0, 0);
    let mut wrong = Vec::new();
    for cells in table {
        let name = cells[0];
        let zone = TimeZone::get(name).unwrap();
        zones += 1;
        for ((text, series), expected) in series.iter().zip(&cells[1..]) {
            let days_us = (series.to.0 - series.from.0) / (366 * DAY_S * SECOND_US);
            if series.every == Every::Day && days_us + 1 > years.max(2) {
                continue;
            }
            let periods = match series.walk(&zone) {
                Ok(periods) => periods,
                Err(why) => {
                    wrong.push(format!("{name} \"{text}\": {why}"));
                    continue;
                }
            };
            seen += periods.len();
            if checksum(&periods) != *expected {
                wrong.push(format!("{name} \"{text}\": starts differ"));
            }
            let probed = probed(series, &periods, years);
            match series.probe(&zone, &probed, &mut random) {
                Ok(count) => asked += count,
                Err(why) => wrong.push(format!("{name} \"{text}\", seed {seed}: {why}")),
            }
        }
    }
    writeln!(
        std::io::stdout(),
        "figure: {zones} zones, {seen} periods compared, {asked} instants asked around their bounds"
    )
    .unwrap();
    assert!(
        wrong.is_empty(),
        "{} of the series differ; `calendars/expect.py ZONE SERIES` prints what is expected of \
         one (made with {}):\n{}",
        wrong.len(),
        CHECKSUMS.lines().next().unwrap_or_default(),
        wrong.join("\n")
    );
}

/// The periods around whose bounds is asked: all in the full form, else those of months, years,
/// and days that are not 24 hours long.
fn probed(series: &Series, periods: &[Period], years: i64) -> Vec<Period> {
    let all = years >= WHOLE_YEARS;
    let wanted = |period: &&Period| match series.every {
        Every::Day => all || length_s(period) != DAY_S,
        Every::Week => all,
        Every::Month | Every::Year => true,
    };
    periods.iter().filter(wanted).copied().collect()
}

#[test]
fn odd_days_and_month_ends_are_those_that_python_says() {
    let mut compared = 0;
    for cells in lines(ROWS) {
        let [name, text, expected] = cells[..] else {
            panic!("not three cells: {cells:?}");
        };
        let zone = TimeZone::get(name).unwrap();
        let series = Series::parse(text).unwrap();
        let periods = series.walk(&zone).unwrap();
        assert_eq!(row(&series, &periods), expected, "{name} \"{text}\"");
        series.probe(&zone, &periods, &mut 7).unwrap();
        for period in &probed(&series, &periods, 0) {
            for at in slow_walk(&series, period) {
                assert_eq!(
                    series.at(at, &zone),
                    Some(*period),
                    "{name} \"{text}\" {at}"
                );
            }
        }
        compared += 1;
    }
    assert!(compared > 100, "{compared} rows");
}

#[test]
fn clocks_that_fall_back_over_midnight_do_not_reopen_the_day_before() {
    // Newfoundland, 7 November 2010: at 00:01 it was 23:01 of the 6th once more.
    let zone = TimeZone::get("America/St_Johns").unwrap();
    let at = |text: &str| Timestamp::parse(text).unwrap();
    let series = Series::parse("day calendar 2010-11-06 2010-11-08").unwrap();
    let day = Period {
        start: at("2010-11-07T02:30:00Z"),
        end: at("2010-11-08T03:30:00Z"),
    };
    for inside in ["02:30:00", "02:30:59", "02:31:00", "03:29:59", "03:30:00"] {
        let inside = at(&format!("2010-11-07T{inside}Z"));
        assert_eq!(series.at(inside, &zone), Some(day), "{inside}");
    }
    let before = series.at(at("2010-11-07T02:29:59.999999Z"), &zone).unwrap();
    assert_eq!(before.end, day.start);
}

#[test]
fn a_day_that_never_was_is_in_no_period() {
    let apia = TimeZone::get("Pacific/Apia").unwrap();
    let series = Series::parse("day calendar 2011-12-29 2012-01-02").unwrap();
    let starts: Vec<String> = series
        .walk(&apia)
        .unwrap()
        .iter()
        .map(|period| period.start.to_whole_seconds())
        .collect();
    // The 29th, then the 31st at once: the 30th of December 2011 was skipped.
    let expected = ["28", "29", "30", "31"].map(|day| format!("2011-12-{day}T10:00:00Z"));
    assert_eq!(starts[..4], expected);
}
