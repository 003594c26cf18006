//! The list of the cases, which the generated tests and [`CASES`] share.

use super::run::Case;
use super::{
    batches, checkpoints, conflicts, dead_letters, erasure, firing, group_commit, leases, limits,
    marks, names, order, outbox, outbox_timers, partition_hash, pruning, reads, snapshots,
    subscribe, summaries, timers, unknown_outcome, versions, waking,
};

/// Hands the list of all cases to a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ([$($callback:tt)*] $arguments:tt) => {
        $($callback)*! {
            $arguments
            versions {
                count_from_one,
                are_of_each_stream,
                events_come_back_as_they_went_in,
                the_verdict_names_the_last_event,
                an_append_without_events_only_checks,
            }
            conflicts {
                exact_admits_only_that_version,
                empty_admits_only_the_first_append,
                exists_admits_any_but_the_first,
                any_admits_all,
                without_events_conflict_too,
                leave_nothing_behind,
                one_of_many_writers_wins,
                writers_that_decide_again_all_get_through,
                writers_on_many_streams_do_not_disturb_each_other,
            }
            batches {
                are_answered_in_their_order,
                number_their_events_without_a_gap,
                a_losing_append_leaves_its_neighbours_alone,
                a_guilty_append_is_found_one_by_one,
                belong_to_one_partition_and_different_streams,
                may_be_empty,
                may_be_large,
                an_append_is_seen_whole_or_not_at_all,
            }
            marks {
                keep_where_each_message_left_the_stream,
                of_refusals_have_no_position,
                unknown_ones_are_none,
                come_before_versions,
                come_before_closing,
                one_duplicate_undoes_the_drain,
                all_duplicates_are_reported,
                another_digest_is_another_message,
                the_first_answer_stays,
                another_answer_is_a_duplicate,
                without_events_are_recognised_again,
                belong_to_one_stream,
                of_a_losing_append_are_not_kept,
            }
            unknown_outcome {
                the_same_append_again_is_committed_once,
                it_is_recognised_after_the_stream_moved_on,
                other_events_at_its_place_are_a_conflict,
                marks_that_stand_with_other_events_are_a_duplicate,
                other_content_under_the_same_ids_is_not_the_same_append,
                other_content_is_told_apart_within_a_batch,
                of_identical_appends_at_once_one_takes_effect,
                a_dropped_append_is_resolved,
                a_dropped_batch_is_resolved,
            }
            reads {
                start_after_a_version,
                an_unknown_stream_is_empty,
                leave_nothing_behind,
                pages_hold_so_many_events_of_each_partition,
                pages_hold_only_the_partitions_asked_for,
                pages_put_together_are_the_log,
                heads_are_the_highest_offsets,
                long_streams_come_in_order,
                abandoned_loads_hold_nothing_back,
                another_process_sees_the_same,
            }
            snapshots {
                come_back_as_they_went_in,
                older_ones_never_replace_newer_ones,
                are_kept_by_fingerprint,
                shorten_a_load,
                the_highest_of_concurrent_saves_stays,
                stand_only_where_their_event_does,
                stand_only_on_their_own_events,
                above_a_version_are_deleted,
                of_other_shapes_are_deleted_when_they_are_old,
            }
            limits {
                payloads_of_every_size_come_back,
                metadata_at_the_limit_comes_back,
                payloads_beyond_the_limit_are_refused,
                metadata_beyond_the_limit_is_refused,
                what_is_no_metadata_is_refused,
                nul_characters_are_refused,
                nul_bytes_in_payloads_come_back,
                reserved_names_are_refused,
                marks_that_make_no_sense_are_refused,
                metadata_that_is_hard_to_keep_is_kept_or_refused,
            }
            names {
                odd_ones_work,
                that_look_alike_are_different,
                long_ones_work,
            }
            erasure {
                overwrites_content_and_nothing_else,
                takes_snapshots_and_answers_along,
                is_asked_again_without_effect,
                followers_are_told,
                whoever_was_before_it_loses_on_version,
                leaves_other_streams_alone,
                a_sender_without_events_is_erased_from_the_queues,
                a_stream_goes_on_after_it,
                an_erased_append_is_not_appended_again,
                closing_ends_a_stream,
                closing_again_is_committed,
                closing_checks_the_version,
                closing_refuses_even_an_append_without_events,
                a_closed_stream_recognises_earlier_appends,
                erasing_keeps_a_stream_closed,
                overriding_replaces_what_is_read,
                overriding_needs_content_to_replace,
                erasing_takes_overrides_along,
            }
            partition_hash {
                golden_vectors_are_where_they_were,
                events_lie_where_the_hash_says,
            }
            subscribe {
                what_is_there_comes_then_what_is_committed,
                it_starts_after_the_given_positions,
                a_reader_that_waits_sees_the_first_event,
                commits_of_another_process_are_seen,
                many_readers_see_the_same,
                waiting_ends_when_there_are_events,
            }
            outbox_timers {
                effects_wait_in_their_order,
                effects_without_events_are_stored,
                effects_of_the_same_append_again_are_stored_once,
                a_losing_append_stores_none,
                timers_are_due_by_the_stores_clock,
                arming_replaces_and_cancelling_removes,
                changes_of_one_append_are_made_in_order,
                timers_belong_to_one_stream,
                finishing_takes_all_timers,
                closing_takes_all_timers,
                erasing_takes_their_content,
            }
            leases {
                a_free_one_is_claimed_once,
                epochs_rise_with_every_claim,
                epochs_are_at_least_what_the_claimer_gives,
                a_lapsed_one_changes_hands,
                a_renewed_one_does_not_lapse,
                a_held_one_is_seized,
                each_change_succeeds_or_fails_alone,
                of_many_claimers_one_wins,
                a_pause_is_shown_to_all,
                members_are_announced_and_withdrawn,
                members_lapse,
                come_in_order_of_workers_and_partitions,
            }
            checkpoints {
                come_back_in_order_of_partitions,
                move_with_what_is_queued,
                are_fenced,
                the_same_again_adds_nothing,
                without_a_lease_only_move_forwards,
                belong_to_one_partition,
                rewound_ones_begin_anew_under_another_epoch,
            }
            outbox {
                rows_come_in_the_order_of_commits,
                rows_of_a_losing_append_do_not_come,
                queues_are_apart,
                nothing_is_queued_behind_a_reader,
                what_is_done_goes_and_others_come_last,
                what_is_gone_is_settled_without_effect,
                settling_is_fenced,
                settlements_are_of_one_partition,
                many_are_settled_at_once,
                many_queues_are_read_at_once,
                failed_ones_wait,
                begun_ones_are_known,
                parked_ones_hold_their_pair,
                streams_are_listed_once,
                last_places_are_those_of_the_last_rows,
                two_holders_settle_a_row_once,
            }
            summaries {
                show_every_queue_with_its_counts,
                count_timers_that_are_due,
                end_at_the_limit,
                counts_of_queues_end_at_the_limit,
            }
            firing {
                takes_exactly_its_arming,
                works_before_the_deadline_and_without_events,
                what_it_arms_under_the_same_id_stays,
                of_a_timer_that_is_not_armed_so_is_void,
                of_another_stream_is_void,
                duplicates_and_ends_come_before_void,
                sent_again_it_is_committed,
                a_void_one_leaves_nothing_and_disturbs_no_neighbour,
                of_two_at_once_one_takes_effect,
            }
            timers {
                due_ones_come_earliest_first,
                come_back_as_they_were_armed,
                become_due_in_time,
                queues_are_apart,
                ten_thousand_that_wait_do_not_hide_one,
                many_queues_are_read_and_settled_at_once,
                failed_ones_are_due_again,
                begun_ones_are_known,
                done_ones_go,
                settling_is_fenced_and_of_one_arming,
                settlements_are_of_one_partition,
                of_what_is_finished_or_closed_are_not_due,
            }
            dead_letters {
                hold_what_was_parked,
                may_have_the_longest_names,
                without_an_attempt_stand_at_the_end,
                come_in_pages_and_in_order,
                go_on_behind_one_that_has_gone,
                only_heads_are_decided,
                redriven_they_are_where_they_were,
                those_with_errors_of_their_own_stay_behind,
                refused_they_go_and_are_answered,
                resolving_is_fenced_and_needs_a_decision,
                timers_are_parked_and_due_again,
                parked_timers_go_as_armed_ones_do,
                erasing_takes_content_of_all_that_waits,
                one_that_is_parked_twice_is_one,
            }
            pruning {
                old_marks_go_in_small_numbers,
                young_marks_stay,
                marks_of_other_partitions_stay,
                marks_of_what_waits_stay,
            }
            waking {
                appends_with_effects_wake,
                what_workers_queue_wakes,
                decisions_wake,
                what_was_missed_is_there_at_once,
            }
            group_commit {
                what_waits_together_is_committed_together,
                appends_to_one_stream_keep_their_order,
                losers_leave_their_neighbours_alone,
                the_guilty_fails_alone,
                two_processes_all_get_through,
                lost_answers_are_asked_for_again,
                a_dropped_append_is_resolved,
            }
            order {
                readers_at_the_tail_miss_nothing,
                foreign_transactions_do_not_hold_readers_back,
                old_snapshots_do_not_slow_appends_down,
            }
        }
    };
}

/// Generates the tests of the conformance suite: each case, with one and with three partitions.
///
/// The argument is the path of an `async fn(partitions: u16)` that makes a
/// [`StoreBackend`](crate::conformance::StoreBackend) of an empty log.
#[macro_export]
macro_rules! conformance {
    ($factory:path) => {
        #[cfg(test)]
        mod conformance {
            #[allow(unused_imports, reason = "the factory's path may be absolute")]
            use super::*;

            mod one_partition {
                #[allow(unused_imports, reason = "the factory's path may be absolute")]
                use super::*;
                $crate::__conformance_cases!([$crate::__conformance_tests](1, $factory));
            }
            mod three_partitions {
                #[allow(unused_imports, reason = "the factory's path may be absolute")]
                use super::*;
                $crate::__conformance_cases!([$crate::__conformance_tests](3, $factory));
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ($arguments:tt $($theme:ident { $($case:ident,)* })*) => {
        $($crate::__conformance_theme! { $arguments $theme { $($case,)* } })*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_theme {
    ($arguments:tt $theme:ident { $($case:ident,)* }) => {
        mod $theme {
            #[allow(unused_imports, reason = "the factory's path may be absolute")]
            use super::*;
            $($crate::__conformance_test! { $arguments $theme $case })*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_test {
    (($partitions:literal, $factory:path) $theme:ident $case:ident) => {
        #[test]
        fn $case() {
            let (theme, case) = (stringify!($theme), stringify!($case));
            $crate::conformance::check(theme, case, $partitions, $factory);
        }
    };
}

macro_rules! registry {
    (() $($theme:ident { $($case:ident,)* })*) => {
        &[$($(Case {
            theme: stringify!($theme),
            name: stringify!($case),
            body: |subject| Box::pin($theme::$case(subject)),
        },)*)*]
    };
}

/// All cases of the suite.
pub const CASES: &[Case] = __conformance_cases!([registry]());
