//! Instants and durations: wall time as microseconds since the Unix epoch, and monotonic ticks.

use std::fmt;

/// Wall time: microseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub i64);

/// Monotonic time in microseconds, aligned to the Unix epoch when the process started and never
/// stepped afterwards; after a restart it is never smaller than any tick written down before.
/// Rate windows run on ticks (docs/rules.md, 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Ticks(pub u64);

/// Why a time or duration could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not an RFC 3339 instant.
    #[error("not an RFC 3339 time such as 2026-11-23T14:00:00Z")]
    Instant,
    /// Not a duration of the form `250ms`, `15m`, `24h`.
    #[error("not a duration such as 250ms, 5s, 15m, 24h or 7d")]
    Duration,
}

impl Timestamp {
    /// The instant `us` microseconds later (saturating).
    #[must_use]
    pub fn plus_us(self, us: i64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to here; negative when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The start of the span of `us` microseconds since the epoch that holds this instant.
    #[must_use]
    pub fn floor_to(self, us: i64) -> Self {
        Self(self.0.div_euclid(us) * us)
    }

    /// Reads RFC 3339 with any offset.
    ///
    /// # Errors
    /// [`TimeError::Instant`] when the text is no instant.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| TimeError::Instant)?;
        Ok(Self(instant.as_microsecond()))
    }

    /// RFC 3339 in UTC with whole seconds (rounded up), as rate-limit headers carry
    /// it (docs/rules.md, 6).
    #[must_use]
    pub fn to_whole_seconds(self) -> String {
        let seconds = self.0.div_euclid(1_000_000) + i64::from(self.0.rem_euclid(1_000_000) > 0);
        jiff::Timestamp::from_second(seconds)
            .unwrap_or(jiff::Timestamp::MAX)
            .to_string()
    }

    /// As the calendar library's type; instants beyond its range are clamped.
    #[must_use]
    pub fn to_jiff(self) -> jiff::Timestamp {
        let edge = if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        };
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(edge)
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339, `Z`, six decimals (docs/rules.md, 19).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.to_jiff())
    }
}

impl Ticks {
    /// The tick `us` microseconds later (saturating).
    #[must_use]
    pub fn plus_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to here, zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Reads `250ms`, `5s`, `15m`, `24h`, `7d`; the answer is in microseconds.
///
/// # Errors
/// [`TimeError::Duration`] when the text has no number, no unit, or does not fit.
pub fn parse_duration_us(text: &str) -> Result<u64, TimeError> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .ok_or(TimeError::Duration)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| TimeError::Duration)?;
    let scale: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return Err(TimeError::Duration),
    };
    number
        .checked_mul(scale)
        .filter(|us| *us <= i64::MAX as u64)
        .ok_or(TimeError::Duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_print_with_six_decimals_and_read_back() {
        let at = Timestamp(1_764_000_000_000_001);
        assert_eq!(at.to_string(), "2025-11-24T16:00:00.000001Z");
        assert_eq!(Timestamp::parse("2025-11-24T17:00:00.000001+01:00"), Ok(at));
        assert_eq!(
            Timestamp(1_764_000_000_000_000).to_string(),
            "2025-11-24T16:00:00.000000Z"
        );
        assert_eq!(at.to_whole_seconds(), "2025-11-24T16:00:01Z");
        assert!(Timestamp::parse("yesterday").is_err());
    }

    #[test]
    fn durations_need_a_number_and_a_unit() {
        assert_eq!(parse_duration_us("250ms"), Ok(250_000));
        assert_eq!(parse_duration_us("24h"), Ok(86_400_000_000));
        for bad in ["", "5", "ms", "5 s", "-1s", "99999999999999999999s", "1w"] {
            assert!(parse_duration_us(bad).is_err(), "{bad}");
        }
    }
}
