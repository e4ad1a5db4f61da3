//! Cuts a span into pieces, each answered by the coarsest source that lies wholly inside. Pure.

use tollgate_model::{Family, Grain, Timestamp};

/// A kind of bucket that may be used, coarsest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) family: Family,
    pub(crate) grain: Grain,
    /// Buckets that begin earlier may be gone.
    pub(crate) kept_from: Timestamp,
}

/// Where a piece is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Buckets { family: Family, grain: Grain },
    Records,
}

/// A part of the span and its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) source: Source,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// Cuts the cells between neighbouring `bounds` into pieces. No bucket of a piece crosses a bound;
/// neighbouring pieces of one source are joined, also over bounds.
pub(crate) fn pieces(bounds: &[Timestamp], levels: &[Level]) -> Vec<Piece> {
    let mut out = Vec::new();
    for (from, to) in bounds.iter().zip(bounds.iter().skip(1)) {
        cut(*from, *to, levels, &mut out);
    }
    out.sort_by_key(|piece: &Piece| piece.from);
    out.dedup_by(|next, before| {
        let joined = before.source == next.source && before.to == next.from;
        if joined {
            before.to = next.to;
        }
        joined
    });
    out
}

fn cut(from: Timestamp, to: Timestamp, levels: &[Level], out: &mut Vec<Piece>) {
    if from >= to {
        return;
    }
    let Some((level, finer)) = levels.split_first() else {
        out.push(Piece {
            source: Source::Records,
            from,
            to,
        });
        return;
    };
    let span = level.grain.span_us();
    let low = from.max(level.kept_from).plus_us(span - 1).floor_to(span);
    let high = to.floor_to(span);
    if low >= high {
        return cut(from, to, finer, out);
    }
    cut(from, low, finer, out);
    out.push(Piece {
        source: Source::Buckets {
            family: level.family,
            grain: level.grain,
        },
        from: low,
        to: high,
    });
    cut(high, to, finer, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3_600_000_000;
    const MINUTE: i64 = 60_000_000;

    fn levels(kept_from: i64) -> [Level; 3] {
        let level = |family, grain, kept_from| Level {
            family,
            grain,
            kept_from: Timestamp(kept_from),
        };
        [
            level(Family::Api, Grain::Day, i64::MIN),
            level(Family::Api, Grain::Hour, i64::MIN),
            level(Family::Route, Grain::Minute, kept_from),
        ]
    }

    #[test]
    fn a_crooked_span_is_records_minutes_hours_minutes_records() {
        let bounds = [
            Timestamp(HOUR - 90_000_000),
            Timestamp(3 * HOUR + 61_000_000),
        ];
        let found = pieces(&bounds, &levels(0));
        let ends: Vec<i64> = found.iter().map(|piece| piece.to.0).collect();
        assert_eq!(
            ends,
            [
                HOUR - MINUTE,
                HOUR,
                3 * HOUR,
                3 * HOUR + MINUTE,
                bounds[1].0
            ]
        );
        assert_eq!(found[0].source, Source::Records);
        assert_eq!(found[4].source, Source::Records);
    }

    #[test]
    fn minutes_that_may_be_gone_are_read_from_records() {
        let bounds = [Timestamp(HOUR - 2 * MINUTE), Timestamp(HOUR)];
        let found = pieces(&bounds, &levels(2 * HOUR));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].source, Source::Records);
    }

    proptest! {
        #[test]
        fn pieces_tile_the_span_and_respect_bounds_and_grains(
            mut cuts in prop::collection::vec(0i64..4 * 24 * HOUR, 2..6),
            kept_from in 0i64..4 * 24 * HOUR,
        ) {
            cuts.sort_unstable();
            cuts.dedup();
            prop_assume!(cuts.len() > 1);
            let bounds: Vec<Timestamp> = cuts.into_iter().map(Timestamp).collect();
            let found = pieces(&bounds, &levels(kept_from));
            let mut at = bounds[0];
            for piece in &found {
                prop_assert_eq!(piece.from, at);
                at = piece.to;
                if let Source::Buckets { grain, .. } = piece.source {
                    let span = grain.span_us();
                    prop_assert_eq!(piece.from.0 % span, 0);
                    prop_assert_eq!(piece.to.0 % span, 0);
                    prop_assert!(grain != Grain::Minute || piece.from.0 >= kept_from);
                    for bound in &bounds {
                        let inside = piece.from < *bound && *bound < piece.to;
                        prop_assert!(!inside || bound.0 % span == 0);
                    }
                }
            }
            prop_assert_eq!(at, bounds[bounds.len() - 1]);
        }
    }
}
