//! What a request is charged in the end, by how it ended.
//!
//! | end | windows | quotas |
//! |---|---|---|
//! | denied, or nothing was sent upstream | 0 | 0 |
//! | answered, status is charged | actual | actual |
//! | answered, status is not charged | actual | 0 |
//! | the upstream broke off or was too slow | actual | 0 |
//! | the client left (or we cut it off) before the head | reserved | reserved |
//! | the same after the head | by the head's status | by the head's status |
//! | interrupted by a crash | reserved | reserved |
//! | a reservation that lapsed | reserved | 0 |
//!
//! *Actual* is what the upstream states, where the route lets it (`cost_max`); where it states
//! nothing it is the route's cost once the answer is complete, and what was reserved otherwise:
//! hanging up early never makes a call cheaper.

use tollgate_model::{Outcome, Route, StatusSet};

/// The price of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Units, where the upstream states nothing.
    pub cost: u64,
    /// Most units that the upstream may state; `None`: it may not.
    pub cost_max: Option<u64>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The outcome.
    pub outcome: Outcome,
    /// Whether anything was sent upstream.
    pub sent: bool,
    /// Status of the upstream's head, once it was there.
    pub head_status: Option<u16>,
    /// What the upstream stated in `Tollgate-Cost`, head or trailer.
    pub stated: Option<u64>,
    /// The API's charged statuses.
    pub charged: &'a StatusSet,
}

/// Units kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// On windows.
    pub windows: u64,
    /// On quotas: the units of the record.
    pub quotas: u64,
    /// The upstream stated more than `cost_max`, which was booked instead: worth a metric.
    pub capped: bool,
}

impl Cost {
    /// The price of a route; paths that no route lists cost 1.
    #[inline]
    #[must_use]
    pub fn of(route: Option<&Route>) -> Self {
        route.map_or(
            Self {
                cost: 1,
                cost_max: None,
            },
            |route| Self {
                cost: u64::from(route.cost),
                cost_max: route.cost_max.map(u64::from),
            },
        )
    }

    /// Units to reserve at admission: the most that the call can come to.
    #[inline]
    #[must_use]
    pub fn reserved(self) -> u64 {
        self.cost_max.map_or(self.cost, |max| max.max(self.cost))
    }

    /// What the upstream stated, as far as the route lets it, and whether it stated too much.
    fn stated(self, stated: Option<u64>) -> Option<(u64, bool)> {
        let max = self.cost_max?;
        stated.map(|units| (units.min(max), units > max))
    }
}

/// What is kept of the reservation. See the table above.
#[must_use]
pub fn charge(cost: Cost, ended: &Ended<'_>) -> Kept {
    let reserved = cost.reserved();
    let both = |units, capped| Kept {
        windows: units,
        quotas: units,
        capped,
    };
    let complete = ended.outcome == Outcome::Forwarded;
    let unstated = if complete { cost.cost } else { reserved };
    let (actual, capped) = cost.stated(ended.stated).unwrap_or((unstated, false));
    let windows_only = Kept {
        windows: actual,
        quotas: 0,
        capped,
    };
    match ended.outcome {
        Outcome::Denied => Kept::default(),
        Outcome::Interrupted => both(reserved, false),
        Outcome::Lapsed => Kept {
            windows: reserved,
            ..Kept::default()
        },
        _ if !ended.sent => Kept::default(),
        Outcome::UpstreamError => windows_only,
        Outcome::Forwarded | Outcome::ClientClosed | Outcome::Cut => match ended.head_status {
            None => both(reserved, false),
            Some(status) if ended.charged.contains(status) => both(actual, capped),
            Some(_) => windows_only,
        },
    }
}

impl Cost {
    /// What is certain to be kept once the upstream's head is there: what the answer's headers
    /// take as given back. A cost that may still come in a trailer counts as reserved.
    #[must_use]
    pub fn kept_at_head(self, status: u16, stated: Option<u64>, charged: &StatusSet) -> Kept {
        charge(
            self,
            &Ended {
                // Not at its end yet: what is not stated counts as reserved.
                outcome: Outcome::ClientClosed,
                sent: true,
                head_status: Some(status),
                stated,
                charged,
            },
        )
    }
}

/// Reads `Tollgate-Cost`: a whole number, spaces around it allowed. Numbers too large for 64 bits
/// are the largest; anything else is no statement.
#[must_use]
pub fn parse_stated_cost(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: Cost = Cost {
        cost: 3,
        cost_max: None,
    };
    const OPEN_ENDED: Cost = Cost {
        cost: 3,
        cost_max: Some(50),
    };

    fn kept(
        cost: Cost,
        outcome: Outcome,
        sent: bool,
        head: Option<u16>,
        stated: Option<u64>,
    ) -> (u64, u64) {
        let charged = StatusSet::default_charge();
        let kept = charge(
            cost,
            &Ended {
                outcome,
                sent,
                head_status: head,
                stated,
                charged: &charged,
            },
        );
        (kept.windows, kept.quotas)
    }

    #[test]
    fn what_is_kept_follows_from_how_the_call_ended() {
        use Outcome::{ClientClosed, Cut, Denied, Forwarded, Interrupted, Lapsed, UpstreamError};
        let table = [
            (Denied, false, None, (0, 0)),
            (UpstreamError, false, None, (0, 0)),
            (ClientClosed, false, None, (0, 0)),
            (Cut, false, None, (0, 0)),
            (Forwarded, true, Some(200), (3, 3)),
            (Forwarded, true, Some(101), (3, 3)),
            (Forwarded, true, Some(404), (3, 3)),
            (Forwarded, true, Some(503), (3, 0)),
            (UpstreamError, true, None, (3, 0)),
            (UpstreamError, true, Some(200), (3, 0)),
            (ClientClosed, true, None, (3, 3)),
            (ClientClosed, true, Some(200), (3, 3)),
            (ClientClosed, true, Some(500), (3, 0)),
            (Cut, true, None, (3, 3)),
            (Cut, true, Some(200), (3, 3)),
            (Interrupted, true, None, (3, 3)),
            (Interrupted, false, None, (3, 3)),
            (Lapsed, false, None, (3, 0)),
        ];
        for (outcome, sent, head, expected) in table {
            assert_eq!(
                kept(FLAT, outcome, sent, head, None),
                expected,
                "{outcome:?} {sent} {head:?}"
            );
            // A cost that nobody may state is ignored.
            assert_eq!(kept(FLAT, outcome, sent, head, Some(9)), expected);
        }
    }

    #[test]
    fn a_stated_cost_counts_up_to_its_maximum_and_the_rest_is_given_back() {
        use Outcome::{ClientClosed, Forwarded, UpstreamError};
        assert_eq!(OPEN_ENDED.reserved(), 50);
        let table = [
            (Forwarded, Some(200), Some(7), (7, 7)),
            (Forwarded, Some(200), Some(0), (0, 0)),
            (Forwarded, Some(200), Some(51), (50, 50)),
            (Forwarded, Some(200), None, (3, 3)),
            (Forwarded, Some(500), Some(7), (7, 0)),
            (ClientClosed, None, None, (50, 50)),
            (ClientClosed, Some(200), None, (50, 50)),
            (ClientClosed, Some(200), Some(7), (7, 7)),
            (UpstreamError, Some(200), None, (50, 0)),
        ];
        for (outcome, head, stated, expected) in table {
            assert_eq!(
                kept(OPEN_ENDED, outcome, true, head, stated),
                expected,
                "{outcome:?} {head:?} {stated:?}"
            );
        }
        let charged = StatusSet::default_charge();
        let ended = Ended {
            outcome: Forwarded,
            sent: true,
            head_status: Some(200),
            stated: Some(51),
            charged: &charged,
        };
        assert!(charge(OPEN_ENDED, &ended).capped);
        assert!(!charge(FLAT, &ended).capped);
        for stated in [Some(50), Some(49), None] {
            let ended = Ended { stated, ..ended };
            assert!(!charge(OPEN_ENDED, &ended).capped, "{stated:?}");
        }
    }

    #[test]
    fn the_head_gives_back_only_what_is_certain() {
        let set = StatusSet::default_charge();
        let at_head = |cost: Cost, status, stated| {
            let kept = cost.kept_at_head(status, stated, &set);
            (kept.windows, kept.quotas)
        };
        assert_eq!(at_head(FLAT, 200, None), (3, 3));
        assert_eq!(at_head(FLAT, 500, None), (3, 0));
        assert_eq!(at_head(OPEN_ENDED, 200, None), (50, 50));
        assert_eq!(at_head(OPEN_ENDED, 500, None), (50, 0));
        assert_eq!(at_head(OPEN_ENDED, 200, Some(4)), (4, 4));
    }

    #[test]
    fn a_stated_cost_is_a_whole_number() {
        assert_eq!(parse_stated_cost(b" 12 "), Some(12));
        assert_eq!(
            parse_stated_cost(b"99999999999999999999999"),
            Some(u64::MAX)
        );
        assert_eq!(parse_stated_cost(b"0"), Some(0));
        for bad in [&b""[..], b"  ", b"-1", b"1.5", b"0x1", b"1,2", b"one"] {
            assert_eq!(parse_stated_cost(bad), None);
        }
    }
}
