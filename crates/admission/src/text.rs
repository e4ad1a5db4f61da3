//! Short texts of headers, made without a heap allocation.

use smallvec::SmallVec;
use tollgate_model::Timestamp;

/// A short ASCII text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text(SmallVec<[u8; 48]>);

impl Text {
    /// The bytes, all of them visible ASCII or spaces.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }

    pub(crate) fn push_str(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn push_number(&mut self, number: u64) {
        self.push_padded(number, 1);
    }

    /// Decimal digits, at least so many.
    fn push_padded(&mut self, mut number: u64, digits_min: usize) {
        let start = self.0.len();
        while number > 0 || self.0.len() < start + digits_min {
            self.0.push(b'0' + (number % 10) as u8);
            number /= 10;
        }
        if let Some(digits) = self.0.get_mut(start..) {
            digits.reverse();
        }
    }
}

/// A number in decimal digits.
#[must_use]
pub fn decimal(number: u64) -> Text {
    let mut text = Text::default();
    text.push_number(number);
    text
}

/// RFC 3339 in UTC with whole seconds, rounded up: the moment is never told too early.
#[must_use]
pub fn whole_seconds(at: Timestamp) -> Text {
    const DAY_S: i64 = 86_400;
    let seconds = at.0.div_euclid(1_000_000) + i64::from(at.0.rem_euclid(1_000_000) > 0);
    let mut text = Text::default();
    // Years of four digits after the epoch are what ever stands in a header.
    let (Ok(days), true) = (
        u64::try_from(seconds.div_euclid(DAY_S)),
        seconds < 253_402_300_800,
    ) else {
        text.push_str(&at.to_whole_seconds());
        return text;
    };
    let of_day = seconds.rem_euclid(DAY_S).unsigned_abs();
    let (year, month, day) = civil_from_days(days);
    for (number, digits, after) in [
        (year, 4, "-"),
        (month, 2, "-"),
        (day, 2, "T"),
        (of_day / 3_600, 2, ":"),
        (of_day / 60 % 60, 2, ":"),
        (of_day % 60, 2, "Z"),
    ] {
        text.push_padded(number, digits);
        text.push_str(after);
    }
    text
}

/// The civil date of a day counted from the Unix epoch. Years are taken to begin in March, so
/// that the leap day is the last of its year, in cycles of 400 years of always 146 097 days.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // 719 468 days lie between 1 March of year 0 and the epoch.
    let shifted = days + 719_468;
    let (cycle, of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle =
        (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            assert_eq!(decimal(number).as_str(), number.to_string());
        }
    }

    #[test]
    fn instants_read_as_the_calendar_library_writes_them() {
        let mut at = -3_000_000_000_000_000i64;
        while at < 8_000_000_000_000_000 {
            let instant = Timestamp(at);
            assert_eq!(
                whole_seconds(instant).as_str(),
                instant.to_whole_seconds(),
                "{at}"
            );
            at += 7_919_123_456_789;
        }
        // The first second of every day through a whole cycle of the calendar.
        for day in 0..158_000 {
            let instant = Timestamp(day * 86_400_000_000);
            assert_eq!(
                whole_seconds(instant).as_str(),
                instant.to_whole_seconds(),
                "{day}"
            );
        }
        // The edges of what is written here; beyond them the library writes.
        for seconds in [-1, 0, 1, 253_402_300_800] {
            let instant = Timestamp(seconds * 1_000_000);
            let expected = instant.to_whole_seconds();
            assert_eq!(whole_seconds(instant).as_str(), expected, "{seconds}");
        }
        let last = Timestamp(253_402_300_799_000_000);
        assert_eq!(whole_seconds(last).as_str(), "9999-12-31T23:59:59Z");
        let leap = Timestamp::parse("2028-02-29T23:59:59.000001Z").unwrap();
        assert_eq!(whole_seconds(leap).as_str(), "2028-03-01T00:00:00Z");
    }
}
