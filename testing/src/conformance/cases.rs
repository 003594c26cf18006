//! The table of the cases, which the generated tests and [`CASES`] share.

use super::subject::StoreUnderTest;
use super::{
    batches, checkpoints, conflicts, dead_letters, erasure, firing, group_commit, inbox,
    inspection, leases, limits, names, order, outbox, outbox_timers, partition_hash, pruning,
    reads, snapshots, subscribe, summaries, timers, unknown_outcome, versions, waking,
};
use crate::suite::{Case, case_list};

/// Passes the table of all cases to a macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ([$($callback:tt)*] $arguments:tt) => {
        $($callback)*! {
            $arguments
            versions {
                versions_count_from_one,
                each_stream_has_its_own_versions,
                events_round_trip,
                the_outcome_names_the_last_event,
                an_append_without_events_only_checks_the_version,
            }
            conflicts {
                exact_accepts_only_that_version,
                empty_accepts_only_the_first_append,
                exists_accepts_all_but_the_first_append,
                any_accepts_every_append,
                appends_without_events_conflict_too,
                conflicts_leave_nothing_behind,
                one_of_many_writers_wins,
                writers_that_retry_all_succeed,
                writers_on_different_streams_do_not_conflict,
            }
            batches {
                a_batch_is_answered_in_order,
                a_batch_numbers_its_events_without_gaps,
                a_conflict_leaves_the_rest_of_its_batch_alone,
                a_faulty_append_is_found_one_by_one,
                a_batch_is_of_one_partition_and_distinct_streams,
                a_batch_may_be_empty,
                a_batch_may_be_large,
                an_append_is_read_whole_or_not_at_all,
            }
            inbox {
                inbox_entries_keep_the_version_after_each_message,
                inbox_entries_of_rejections_have_no_position,
                an_unknown_message_has_no_inbox_entry,
                duplicates_are_checked_before_versions,
                duplicates_are_checked_before_closing,
                one_duplicate_fails_the_whole_append,
                all_duplicates_are_reported,
                a_duplicate_keeps_the_digest_of_the_first_message,
                the_first_outcome_of_a_message_stays,
                another_outcome_of_a_message_is_a_duplicate,
                a_repeated_append_without_events_is_recognised,
                inbox_entries_belong_to_one_stream,
                a_conflict_stores_no_inbox_entries,
            }
            unknown_outcome {
                a_repeated_append_is_committed_once,
                a_repeated_append_is_recognised_after_later_events,
                other_events_at_the_same_version_are_a_conflict,
                inbox_entries_with_other_events_are_a_duplicate,
                other_content_under_the_same_ids_is_another_append,
                other_content_is_detected_within_a_batch,
                concurrent_identical_appends_take_effect_once,
                a_dropped_append_is_resolved_by_repeating_it,
                a_dropped_batch_is_resolved_by_repeating_it,
            }
            reads {
                a_load_starts_after_a_version,
                an_unknown_stream_is_empty,
                reads_leave_nothing_behind,
                the_page_limit_applies_to_each_partition,
                a_page_holds_only_the_requested_partitions,
                concatenated_pages_are_the_log,
                heads_are_the_highest_offsets,
                long_streams_load_in_order,
                abandoned_loads_block_nothing,
                another_process_reads_the_same,
            }
            snapshots {
                snapshots_round_trip,
                older_snapshots_never_replace_newer_ones,
                snapshots_are_kept_by_fingerprint,
                a_snapshot_shortens_a_load,
                the_newest_of_concurrent_snapshots_stays,
                a_snapshot_needs_its_event_at_its_version,
                a_snapshot_needs_the_id_of_its_event,
                snapshots_above_a_version_are_deleted,
                old_snapshots_of_other_fingerprints_are_deleted,
            }
            limits {
                payloads_of_every_size_round_trip,
                metadata_at_the_limit_round_trips,
                payloads_beyond_the_limit_are_rejected,
                metadata_beyond_the_limit_is_rejected,
                malformed_metadata_is_rejected,
                nul_characters_are_rejected,
                nul_bytes_in_payloads_round_trip,
                reserved_names_are_rejected,
                invalid_inbox_entries_are_rejected,
                unusual_metadata_is_stored_exactly_or_rejected,
            }
            names {
                unusual_stream_names_work,
                similar_stream_names_are_different,
                long_stream_names_work,
            }
            erasure {
                erasing_overwrites_content_and_nothing_else,
                erasing_deletes_snapshots_and_outcomes,
                erasing_is_idempotent,
                followers_see_an_erasure,
                erasing_makes_concurrent_appends_conflict,
                erasing_leaves_other_streams_alone,
                erasing_covers_queued_rows_of_a_sender_without_events,
                a_stream_continues_after_an_erasure,
                a_repeated_append_of_erased_events_appends_nothing,
                closing_ends_a_stream,
                closing_is_idempotent,
                closing_checks_the_version,
                a_closed_stream_rejects_appends_without_events,
                a_closed_stream_recognises_earlier_appends,
                erasing_keeps_a_stream_closed,
                overriding_replaces_the_content_that_is_read,
                overriding_needs_content_to_replace,
                erasing_deletes_overrides,
            }
            partition_hash {
                golden_vectors_hash_to_their_partitions,
                events_are_in_the_partition_of_their_hash,
            }
            subscribe {
                a_subscription_yields_existing_then_new_events,
                a_subscription_starts_after_the_given_positions,
                a_waiting_reader_sees_the_first_event,
                a_subscription_sees_commits_of_another_process,
                many_readers_see_the_same_events,
                waiting_ends_when_events_arrive,
            }
            outbox_timers {
                outbox_rows_are_stored_in_order,
                outbox_rows_without_events_are_stored,
                a_repeated_append_stores_its_outbox_rows_once,
                a_conflict_stores_no_outbox_rows,
                timers_are_due_by_the_clock_of_the_store,
                arming_replaces_and_cancelling_removes_a_timer,
                timer_changes_of_one_append_apply_in_order,
                timers_belong_to_one_stream,
                completing_a_stream_cancels_its_timers,
                closing_cancels_all_timers,
                erasing_clears_content_of_rows_and_timers,
            }
            leases {
                a_free_lease_is_acquired_once,
                epochs_rise_with_every_acquisition,
                epochs_are_at_least_the_requested_one,
                an_expired_lease_can_be_acquired,
                a_renewed_lease_does_not_expire,
                a_held_lease_can_be_seized,
                each_lease_change_succeeds_or_fails_alone,
                one_of_many_claimants_acquires_a_lease,
                a_pause_is_visible_to_all_processes,
                members_are_announced_and_withdrawn,
                members_expire,
                leases_are_ordered_by_worker_and_partition,
            }
            checkpoints {
                checkpoints_are_ordered_by_partition,
                checkpoints_advance_together_with_queued_rows,
                checkpoints_are_fenced,
                a_repeated_checkpoint_advance_queues_nothing,
                checkpoints_without_a_lease_only_move_forward,
                queued_rows_belong_to_the_checkpoint_partition,
                a_rewound_checkpoint_gets_a_new_epoch,
            }
            outbox {
                outbox_rows_are_read_in_commit_order,
                outbox_rows_of_a_conflict_are_not_read,
                outbox_queues_are_separate,
                no_row_commits_behind_a_readers_position,
                settling_deletes_handled_rows_and_queues_new_ones_last,
                settling_a_missing_row_has_no_effect,
                settling_outbox_rows_is_fenced,
                an_outbox_settlement_is_of_one_partition,
                many_outbox_rows_are_settled_at_once,
                many_outbox_queues_are_read_at_once,
                failed_outbox_rows_wait_for_their_retry,
                started_outbox_rows_are_recorded,
                a_parked_row_blocks_its_sender_and_recipient,
                blocked_streams_are_listed_once,
                the_last_sequences_are_those_of_the_last_rows,
                two_holders_settle_a_row_once,
            }
            summaries {
                summaries_count_every_queue,
                summaries_count_due_timers,
                summaries_end_at_the_limit,
                counts_of_waiting_rows_end_at_the_limit,
            }
            inspection {
                streams_are_listed_in_order_and_in_pages,
                a_listed_stream_shows_its_first_and_last_event,
                a_search_of_the_log_filters_a_range_newest_first,
                overridden_events_are_listed_as_they_were_appended,
                armed_timers_are_listed_due_or_not,
                the_inbox_of_a_stream_is_listed_newest_first,
                all_leases_and_checkpoints_are_listed,
                processes_are_introduced,
                an_examination_of_a_healthy_store_finds_no_fault,
            }
            firing {
                firing_removes_exactly_its_arming,
                firing_works_before_the_deadline_and_without_events,
                firing_keeps_a_timer_armed_under_the_same_id,
                a_fired_arming_may_be_armed_again_with_another_deadline,
                firing_another_arming_is_stale,
                firing_a_timer_of_another_stream_is_stale,
                duplicates_and_closing_come_before_stale_timers,
                a_repeated_firing_is_committed,
                a_stale_firing_leaves_the_rest_of_its_batch_alone,
                concurrent_firings_take_effect_once,
            }
            timers {
                due_timers_are_read_earliest_first,
                timers_round_trip,
                timers_become_due_in_time,
                timer_queues_are_separate,
                ten_thousand_waiting_timers_do_not_hide_a_due_one,
                many_timer_queues_are_read_and_settled_at_once,
                failed_timers_are_due_again,
                started_timers_are_recorded,
                handled_timers_are_deleted,
                settling_timers_is_fenced_and_of_one_arming,
                a_timer_settlement_is_of_one_partition,
                timers_of_completed_or_closed_streams_are_not_due,
            }
            dead_letters {
                dead_letters_hold_the_parked_rows,
                dead_letters_may_have_the_longest_names,
                rows_parked_without_an_attempt_are_listed_last,
                dead_letters_are_read_in_pages_and_in_order,
                a_page_may_start_after_a_deleted_dead_letter,
                only_the_first_dead_letter_of_a_pair_is_decided,
                redriven_rows_keep_their_place,
                a_redrive_keeps_rows_with_their_own_errors_parked,
                discarded_rows_are_deleted_and_answered,
                resolving_is_fenced_and_needs_a_decision,
                parked_timers_are_due_again_when_redriven,
                parked_timers_are_cancelled_like_armed_ones,
                erasing_clears_content_of_all_queued_rows,
                a_row_parked_twice_is_one_dead_letter,
            }
            pruning {
                old_inbox_entries_are_pruned_in_small_numbers,
                recent_inbox_entries_stay,
                inbox_entries_of_other_partitions_stay,
                inbox_entries_of_queued_rows_stay,
            }
            waking {
                appends_with_effects_wake_workers,
                rows_queued_by_workers_wake_workers,
                dead_letter_decisions_wake_workers,
                a_missed_wakeup_is_delivered_at_once,
                workers_of_other_processes_are_woken,
            }
            group_commit {
                waiting_appends_are_committed_together,
                appends_to_one_stream_keep_their_order,
                a_conflict_in_a_group_leaves_the_others_alone,
                a_faulty_append_of_a_group_fails_alone,
                group_commits_of_two_processes_all_succeed,
                appends_with_lost_responses_are_repeated,
                a_dropped_append_of_a_group_is_resolved,
            }
            order {
                readers_at_the_tail_miss_nothing,
                foreign_transactions_do_not_block_readers,
                old_database_snapshots_do_not_slow_appends,
            }
        }
    };
}

/// Generates the tests of the conformance suite: each case with one and with three partitions.
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
                $crate::__conformance_cases!([$crate::__conformance_tests](|case| {
                    $crate::conformance::check(case, 1, $factory)
                }));
            }
            mod three_partitions {
                #[allow(unused_imports, reason = "the factory's path may be absolute")]
                use super::*;
                $crate::__conformance_cases!([$crate::__conformance_tests](|case| {
                    $crate::conformance::check(case, 3, $factory)
                }));
            }
        }
    };
}

/// A case of the suite.
pub type StoreCase = Case<StoreUnderTest>;

/// All cases of the suite.
pub const CASES: &[StoreCase] = &__conformance_cases!([case_list]());
