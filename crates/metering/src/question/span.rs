//! Which span of time a question is about.
//!
//! A span with two instants is exact to the microsecond. A span that counts back from now is read
//! as people mean it: it ends with everything there is, and begins at a whole minute (at a whole
//! hour when it is two days or longer), at or before the instant it names, so that it is answered
//! from buckets alone.

use tollgate_model::{Grain, Timestamp};

use crate::{MeteringError, MeteringResult};

const DAY_US: i64 = 86_400_000_000;
/// Spans at least this long begin at a whole hour when they count back from now.
const WHOLE_HOURS_FROM_US: i64 = 47 * 3_600_000_000;
/// Longest `days`.
const DAYS_MAX: u32 = 3_660;

/// A half-open span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    /// The length that was asked for; what averages are taken over.
    pub(crate) length_us: i64,
    /// The start was given as an instant.
    pub(crate) exact_from: bool,
    /// The end was given as an instant.
    pub(crate) exact_to: bool,
}

/// What a caller may say about a span; nothing at all is the last 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpanInput<'a> {
    /// First instant inside.
    pub from: Option<Timestamp>,
    /// First instant outside.
    pub to: Option<Timestamp>,
    /// So many days up to now.
    pub days: Option<u32>,
    /// `1h`, `24h`, `7d` or `30d` up to now.
    pub range: Option<&'a str>,
}

impl Span {
    /// Exactly `[from, to)`.
    ///
    /// # Errors
    /// `Invalid` when it is empty or reversed.
    pub fn exact(from: Timestamp, to: Timestamp) -> MeteringResult<Self> {
        if from >= to {
            return Err(MeteringError::invalid("from", "lies before to"));
        }
        Ok(Self {
            from,
            to,
            length_us: to.since(from),
            exact_from: true,
            exact_to: true,
        })
    }

    /// The last `length_us` up to everything there is now.
    #[must_use]
    pub fn last(length_us: i64, now: Timestamp) -> Self {
        let grain = if length_us >= WHOLE_HOURS_FROM_US {
            Grain::Hour
        } else {
            Grain::Minute
        };
        Self {
            from: now.plus_us(-length_us).floor_to(grain.span_us()),
            to: open_end(now),
            length_us,
            exact_from: false,
            exact_to: false,
        }
    }

    /// From the words of a query.
    ///
    /// # Errors
    /// `Invalid` when the words contradict each other or name no span.
    pub fn resolve(input: SpanInput<'_>, now: Timestamp) -> MeteringResult<Self> {
        let back = match (input.days, input.range) {
            (Some(_), Some(_)) => {
                return Err(MeteringError::invalid(
                    "range",
                    "give days or range, not both",
                ));
            }
            (Some(days), None) => Some(Self::days(days)?),
            (None, Some(range)) => Some(Self::named(range)?),
            (None, None) => None,
        };
        match (input.from, input.to, back) {
            (None, None, back) => Ok(Self::last(back.unwrap_or(DAY_US), now)),
            (_, _, Some(_)) => Err(MeteringError::invalid(
                "from",
                "give from and to, or days, or range",
            )),
            (Some(from), Some(to), None) => Self::exact(from, to),
            (None, Some(to), None) => Self::exact(to.plus_us(-DAY_US), to),
            (Some(from), None, None) if from < now => Ok(Self {
                from,
                to: open_end(now),
                length_us: now.since(from),
                exact_from: true,
                exact_to: false,
            }),
            (Some(_), None, None) => Err(MeteringError::invalid("from", "lies before now")),
        }
    }

    fn days(days: u32) -> MeteringResult<i64> {
        if (1..=DAYS_MAX).contains(&days) {
            Ok(i64::from(days) * DAY_US)
        } else {
            Err(MeteringError::invalid(
                "days",
                format!("a whole number from 1 to {DAYS_MAX}"),
            ))
        }
    }

    fn named(range: &str) -> MeteringResult<i64> {
        match range {
            "1h" => Ok(DAY_US / 24),
            "24h" => Ok(DAY_US),
            "7d" => Ok(7 * DAY_US),
            "30d" => Ok(30 * DAY_US),
            _ => Err(MeteringError::invalid("range", "1h, 24h, 7d or 30d")),
        }
    }

    /// First instant inside.
    #[must_use]
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// First instant outside.
    #[must_use]
    pub fn to(&self) -> Timestamp {
        self.to
    }

    /// The span of the same length that ends where this one begins.
    #[must_use]
    pub fn before(&self) -> Self {
        let from = self.from.plus_us(-self.length_us);
        let from = if self.exact_from {
            from
        } else {
            from.floor_to(Grain::Minute.span_us())
        };
        Self {
            from,
            to: self.from,
            ..*self
        }
    }

    /// Grown to whole hours at both ends.
    pub(crate) fn in_whole_hours(&self) -> Self {
        let hour = Grain::Hour.span_us();
        Self {
            from: self.from.floor_to(hour),
            to: self.to.plus_us(hour - 1).floor_to(hour),
            ..*self
        }
    }

    /// Ends that were not given as instants are moved outwards to whole hours.
    pub(crate) fn with_open_ends_in_whole_hours(&self) -> Self {
        let whole = self.in_whole_hours();
        Self {
            from: if self.exact_from {
                self.from
            } else {
                whole.from
            },
            to: if self.exact_to { self.to } else { whole.to },
            ..*self
        }
    }
}

/// The end of "up to now": the next whole hour, beyond anything recorded so far.
fn open_end(now: Timestamp) -> Timestamp {
    let hour = Grain::Hour.span_us();
    now.floor_to(hour).plus_us(hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    #[test]
    fn nothing_said_is_the_last_24_hours_and_all_there_is() {
        let now = at("2026-11-23T14:37:12.5Z");
        let span = Span::resolve(SpanInput::default(), now).unwrap();
        assert_eq!(span.from(), at("2026-11-22T14:37:00Z"));
        assert_eq!(span.to(), at("2026-11-23T15:00:00Z"));
        let before = span.before();
        assert_eq!(before.to(), span.from());
        assert_eq!(before.from(), at("2026-11-21T14:37:00Z"));
    }

    #[test]
    fn words_that_contradict_each_other_name_their_field() {
        let now = at("2026-11-23T14:00:00Z");
        let field = |input| match Span::resolve(input, now) {
            Err(MeteringError::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        let days = |days| SpanInput {
            days: Some(days),
            ..SpanInput::default()
        };
        assert_eq!(field(days(0)), "days");
        let both = SpanInput {
            range: Some("7d"),
            ..days(7)
        };
        assert_eq!(field(both), "range");
        let named = |range| SpanInput {
            range: Some(range),
            ..SpanInput::default()
        };
        assert_eq!(field(named("2h")), "range");
        let reversed = SpanInput {
            from: Some(now),
            to: Some(now),
            ..SpanInput::default()
        };
        assert_eq!(field(reversed), "from");
        let future = SpanInput {
            from: Some(now.plus_us(1)),
            ..SpanInput::default()
        };
        assert_eq!(field(future), "from");
    }

    #[test]
    fn a_range_of_days_keeps_its_length_for_averages() {
        let now = at("2026-11-23T14:37:12Z");
        let input = SpanInput {
            days: Some(7),
            ..SpanInput::default()
        };
        let span = Span::resolve(input, now).unwrap();
        assert_eq!(span.from(), at("2026-11-16T14:00:00Z"));
        assert_eq!(span.length_us, 7 * DAY_US);
    }
}
