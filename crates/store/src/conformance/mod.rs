//! What every adapter must do: one suite, run on each.
//!
//! **Owns** one function per guarantee, named by it, over `&dyn Store`, and the macro
//! [`conformance_suite!`](crate::conformance_suite) that makes a test of each.
//!
//! **Invariants.** Every function begins with an empty store and leaves what it made; none looks
//! at how a store keeps things, and none waits for time to pass.

pub mod buckets;
pub mod calls;
pub mod catalog;
pub mod ingest;
pub mod keys;
pub mod ledger;
pub mod records;
pub mod settings;
pub mod tokens;

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::{StoreErrorKind, StoreResult};

/// How a guarantee answers: assertions panic, what should have worked and did not is an error.
pub type Checked<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Why a guarantee does not hold, if so; a panic is caught.
#[doc(hidden)]
pub async fn outcome(name: &str, checked: impl Future<Output = Checked>) -> Option<String> {
    match AssertUnwindSafe(checked).catch_unwind().await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{name}: {error}")),
        Err(_) => Some(format!("{name}: panicked, see above")),
    }
}

/// The kind of a refusal; `None` when it went through.
fn refusal<T>(result: &StoreResult<T>) -> Option<StoreErrorKind> {
    result.as_ref().err().map(|error| error.kind)
}

/// Asserts that of racing commands one went through and all others were refused with `kind`.
fn assert_one_wins<T>(results: &[StoreResult<T>], kind: StoreErrorKind) {
    let won = results.iter().filter(|result| result.is_ok()).count();
    let refused = results.iter().filter(|r| refusal(r) == Some(kind)).count();
    assert_eq!((won, refused), (1, results.len() - 1));
}

/// Makes one test per guarantee. The expression gives `(keep, store)`: something to keep alive
/// for the test, such as a temporary folder, and an empty [`Store`](crate::Store); it stands in
/// an async function and may wait. The calling crate needs `tokio` with `macros` and `rt`.
#[macro_export]
macro_rules! conformance_suite {
    ($make:expr) => {
        $crate::conformance_guarantees! { conformance_tests, $make }
    };
}

/// Calls a macro with every guarantee: `a_macro! { what_is_passed_on; area { guarantee, } }`. For
/// stores whose server is too dear to be started for each test.
#[macro_export]
macro_rules! conformance_guarantees {
    ($then:ident, $passed_on:expr) => {
        $crate::$then! { $passed_on;
            catalog {
                an_empty_store_has_number_zero_and_no_objects,
                a_commit_raises_the_number_by_one_and_keeps_every_field,
                a_put_replaces_and_a_removal_removes,
                kinds_have_names_of_their_own,
                a_commit_on_an_old_number_changes_nothing,
                removing_what_is_not_there_changes_nothing,
                audit_rows_commit_with_their_change_and_come_newest_first,
                of_writers_on_one_number_exactly_one_wins,
            }
            keys {
                every_field_of_a_key_survives,
                writing_a_key_raises_the_version_of_its_row_and_the_catalogs_number,
                an_id_and_a_hash_are_taken_once,
                a_change_names_the_version_it_was_decided_on,
                a_refused_write_leaves_nothing_behind,
                only_keys_neither_revoked_nor_expired_count_as_live,
                of_writers_on_one_key_exactly_one_wins,
                of_keys_racing_for_the_last_place_exactly_one_is_made,
                keys_are_listed_newest_first_page_by_page,
                keys_load_by_rising_id,
                the_keys_of_a_removed_subscription_are_gone,
            }
            tokens {
                a_token_survives_and_is_found_by_its_hash,
                a_token_is_replaced_by_name,
                a_hash_belongs_to_one_name,
            }
            calls {
                an_answer_survives_for_its_request_alone,
                an_act_and_its_call_are_done_together,
                a_claim_without_an_act_is_taken_over_and_its_attempt_can_act_no_more,
                a_released_call_is_free,
                of_attempts_racing_for_a_call_one_acts,
                a_claim_that_races_with_an_act_never_lets_both_act,
                remembered_calls_are_bounded,
            }
            settings {
                a_setting_is_set_once,
                a_setting_is_replaced_only_by_who_knows_what_holds,
                of_racing_settings_one_holds_for_all,
                a_store_in_order_answers_the_ping,
            }
            ingest {
                every_field_of_an_event_survives,
                an_unknown_stream_begins_at_zero,
                a_range_is_taken_in_once_and_without_holes,
                a_refused_batch_leaves_nothing_behind,
                of_several_batches_those_that_fit_are_taken_in,
                a_batch_shipped_ten_times_counts_once,
                of_batches_racing_for_one_range_exactly_one_is_taken_in,
                a_range_without_events_moves_the_mark,
                streams_are_kept_apart_by_node_epoch_and_thread,
                totals_of_a_stream_add_up_by_outcome,
                ingest_moves_last_used_at_forward_only,
            }
            records {
                records_are_ordered_by_admission_then_arrival,
                pages_follow_each_other_without_loss_or_repeat,
                the_span_is_half_open,
                every_condition_filters,
                conditions_hold_together,
                a_strange_cursor_is_refused,
            }
            buckets {
                buckets_add_up_over_batches,
                sketches_merge_over_batches,
                buckets_come_by_rising_key,
                every_condition_filters_buckets,
                merged_starts_add_up_whole_spans,
                only_old_minute_buckets_are_dropped,
                sums_never_wrap,
            }
            ledger {
                units_of_a_period_add_up_by_scope,
                periods_are_listed_from_a_start_on,
                total_units_are_those_of_all_records_ever,
                ledger_totals_tell_what_was_taken_in,
            }
        }
    };
}

/// Runs every guarantee on stores that one future after the other makes; answers the names of those
/// that do not hold, each with the reason. The expression is called with nothing, and gives a
/// future of `(keep, store)`.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_run {
    ($make:expr; $($area:ident { $($guarantee:ident),+ $(,)? })+) => {{
        let mut broken: Vec<String> = Vec::new();
        $($(
            let checked = async {
                let (_keep, store) = $make().await?;
                $crate::conformance::$area::$guarantee(&store).await
            };
            let name = concat!(stringify!($area), "::", stringify!($guarantee));
            broken.extend($crate::conformance::outcome(name, checked).await);
        )+)+
        broken
    }};
}

/// The inside of [`conformance_suite!`](crate::conformance_suite).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($make:expr; $($area:ident { $($guarantee:ident),+ $(,)? })+) => {
        $(
            mod $area {
                use super::*;
                $(
                    #[tokio::test]
                    async fn $guarantee() -> $crate::conformance::Checked {
                        let (_keep, store) = $make;
                        $crate::conformance::$area::$guarantee(&store).await
                    }
                )+
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_guarantee_is_in_the_suite() {
        let suite = include_str!("mod.rs");
        for area in [
            include_str!("buckets.rs"),
            include_str!("calls.rs"),
            include_str!("catalog.rs"),
            include_str!("ingest.rs"),
            include_str!("keys.rs"),
            include_str!("ledger.rs"),
            include_str!("records.rs"),
            include_str!("settings.rs"),
            include_str!("tokens.rs"),
        ] {
            for line in area.lines() {
                let Some(rest) = line.strip_prefix("pub async fn ") else {
                    continue;
                };
                let name = rest.split('(').next().unwrap();
                assert!(suite.contains(&format!(" {name},")), "{name}");
            }
        }
    }
}
