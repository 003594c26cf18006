//! The cases that find each defect, and a check that every case finds one.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use composable_rust_testing::conformance::{CASES, Failure, StoreCase, run};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};

use super::defects::*;
use super::store::{Broken, Defect};

const THREADS: &str = "runs cases that are to fail";

/// Runs `work` on threads whose panics are not printed, because hundreds are expected.
fn quietly(work: impl Future<Output = ()>) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(THREADS) {
            usual(panic);
        }
    }));
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name(THREADS)
        .enable_all()
        .build();
    threads.expect("the operating system gives threads").block_on(work);
}

/// The failure of the case on a store with this defect, of three partitions or of one.
async fn finding<D: Defect>(case: StoreCase, make: impl Fn() -> D) -> Result<(), Failure> {
    run(case, Broken::new(make(), 3)).await?;
    run(case, Broken::new(make(), 1)).await
}

fn case(name: &str) -> StoreCase {
    let found = CASES.iter().find(|case| case.name == name);
    *found.unwrap_or_else(|| panic!("the suite has no case {name}"))
}

#[test]
fn a_store_without_a_defect_passes() {
    quietly(async {
        for case in CASES {
            assert_eq!(finding(*case, || Sound).await, Ok(()), "{case:?}");
        }
    });
}

#[test]
fn a_store_that_never_wakes_readers_times_out() {
    quietly(async {
        for name in WAITING {
            let finding = finding(case(name), || NeverWakes);
            let outcome = tokio::time::timeout(Duration::from_millis(300), finding).await;
            assert!(outcome.is_err(), "{name} does not wait: {outcome:?}");
        }
    });
}

#[test]
fn the_order_case_names_the_missed_event() {
    quietly(async {
        let order = case("readers_at_the_tail_miss_nothing");
        // One partition, so that the numbers have no gaps of their own. The scheduler determines
        // the order in which the writers overtake each other, and may cause another failure first.
        let mut findings = Vec::new();
        for _ in 0..20 {
            let found = run(order, Broken::new(OffsetsFromSequence::default(), 1)).await;
            let Err(Failure(found)) = found else { continue };
            if found.contains("missed") && found.contains("(version ") {
                return;
            }
            findings.push(found);
        }
        panic!("none of 20 runs names the missed event: {findings:#?}");
    });
}

#[test]
fn every_defect_is_found() {
    quietly(async {
        let missed: Vec<_> =
            join_all(table().into_iter().map(|(defect, name, finding)| async move {
                finding.await.is_ok().then(|| format!("{name} does not find {defect}"))
            }))
            .await
            .into_iter()
            .flatten()
            .collect();
        assert!(missed.is_empty(), "{missed:#?}");
    });
}

#[test]
fn every_case_finds_a_defect() {
    let listed: BTreeSet<_> = table().iter().map(|(_, case, _)| *case).chain(WAITING).collect();
    let cases: BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
    assert_eq!(listed, cases, "the table lists every case");
}

/// Cases that detect a missing wakeup by not finishing.
const WAITING: [&str; 7] = [
    "a_waiting_reader_sees_the_first_event",
    "waiting_ends_when_events_arrive",
    "appends_with_effects_wake_workers",
    "rows_queued_by_workers_wake_workers",
    "dead_letter_decisions_wake_workers",
    "a_missed_wakeup_is_delivered_at_once",
    "workers_of_other_processes_are_woken",
];

type Expected = (&'static str, &'static str, BoxFuture<'static, Result<(), Failure>>);

macro_rules! table {
    ($($make:expr => [$($case:literal),* $(,)?];)*) => {
        fn table() -> Vec<Expected> {
            vec![$($((stringify!($make), $case, finding(case($case), || $make).boxed()),)*)*]
        }
    };
}

table! {
    ListsStreamsBackwards => ["streams_are_listed_in_order_and_in_pages"];
    ShowsTheFirstVersion => ["a_listed_stream_shows_its_first_and_last_event"];
    SearchesOldestFirst => ["a_search_of_the_log_filters_a_range_newest_first"];
    ListsReplacements => ["overridden_events_are_listed_as_they_were_appended"];
    ListsOneTimer => ["armed_timers_are_listed_due_or_not"];
    ListsInboxOldestFirst => ["the_inbox_of_a_stream_is_listed_newest_first"];
    ListsOneFollower => ["all_leases_and_checkpoints_are_listed"];
    ForgetsProcesses => ["processes_are_introduced"];
    FindsAFault => ["an_examination_of_a_healthy_store_finds_no_fault"];
    KeepsNoInbox => [
        "duplicates_are_checked_before_versions",
        "duplicates_are_checked_before_closing",
        "one_duplicate_fails_the_whole_append",
        "a_repeated_append_without_events_is_recognised",
    ];
    IgnoresVersions => [
        "exact_accepts_only_that_version",
        "empty_accepts_only_the_first_append",
        "appends_without_events_conflict_too",
        "conflicts_leave_nothing_behind",
        "one_of_many_writers_wins",
        "a_conflict_stores_no_inbox_entries",
        "readers_at_the_tail_miss_nothing",
    ];
    TreatsAnyAsEmpty => ["any_accepts_every_append"];
    TreatsExistsAsAny => ["exists_accepts_all_but_the_first_append"];
    RenamesEvents => [
        "a_repeated_append_is_committed_once",
        "a_repeated_append_is_recognised_after_later_events",
        "a_dropped_append_is_resolved_by_repeating_it",
        "a_dropped_batch_is_resolved_by_repeating_it",
        "a_closed_stream_recognises_earlier_appends",
        "appends_with_lost_responses_are_repeated",
        "a_dropped_append_of_a_group_is_resolved",
    ];
    AppendsTwice => [
        "concurrent_identical_appends_take_effect_once",
        "writers_on_different_streams_do_not_conflict",
        "heads_are_the_highest_offsets",
        "appends_to_one_stream_keep_their_order",
        "a_faulty_append_of_a_group_fails_alone",
    ];
    HidesCurrentVersion => [
        "a_repeated_append_is_recognised_after_later_events",
        "a_repeated_append_without_events_is_recognised",
        "a_repeated_append_of_erased_events_appends_nothing",
        "a_closed_stream_recognises_earlier_appends",
        "a_repeated_firing_is_committed",
    ];
    ComparesFirstEvents => ["other_events_at_the_same_version_are_a_conflict"];
    ForgetsAtomicity => ["an_append_is_read_whole_or_not_at_all"];
    FailsWholeBatches => [
        "a_conflict_leaves_the_rest_of_its_batch_alone",
        "a_conflict_in_a_group_leaves_the_others_alone",
    ];
    AppendsBeforeRejecting => ["a_faulty_append_is_found_one_by_one"];
    IgnoresPartitions => ["a_batch_is_of_one_partition_and_distinct_streams"];
    ReversesOutcomes => ["a_batch_is_answered_in_order"];
    RejectsEmptyBatches => ["a_batch_may_be_empty"];
    RejectsLargeBatches => ["a_batch_may_be_large"];
    CountsFromZero => [
        "versions_count_from_one",
        "each_stream_has_its_own_versions",
        "an_append_without_events_only_checks_the_version",
        "the_outcome_names_the_last_event",
        "waiting_appends_are_committed_together",
    ];
    AlwaysCommits => ["conflicts_leave_nothing_behind", "reserved_names_are_rejected"];
    WritesNothing => ["events_round_trip"];
    OffsetsFromSequence::default() => [
        "readers_at_the_tail_miss_nothing",
        "a_batch_numbers_its_events_without_gaps",
        "conflicts_leave_nothing_behind",
        "writers_that_retry_all_succeed",
        "group_commits_of_two_processes_all_succeed",
    ];
    WaitsForTransactions::default() => ["foreign_transactions_do_not_block_readers"];
    UpdatesCounters => ["old_database_snapshots_do_not_slow_appends"];
    MisplacesEvents => [
        "golden_vectors_hash_to_their_partitions",
        "events_are_in_the_partition_of_their_hash",
    ];

    TrustsInboxEntries => [
        "the_first_outcome_of_a_message_stays",
        "another_outcome_of_a_message_is_a_duplicate",
        "a_duplicate_keeps_the_digest_of_the_first_message",
        "inbox_entries_with_other_events_are_a_duplicate",
        "a_repeated_append_of_erased_events_appends_nothing",
    ];
    ComparesIds => [
        "other_content_under_the_same_ids_is_another_append",
        "other_content_is_detected_within_a_batch",
    ];
    ReportsOneDuplicate => ["all_duplicates_are_reported"];
    ComparesVersionsFirst => ["duplicates_are_checked_before_versions"];
    BlursInboxEntries => [
        "inbox_entries_keep_the_version_after_each_message",
        "inbox_entries_of_rejections_have_no_position",
    ];
    SharesInbox::default() => ["inbox_entries_belong_to_one_stream"];
    NeverEmpty => [
        "an_unknown_message_has_no_inbox_entry",
        "reads_leave_nothing_behind",
        "an_unknown_stream_is_empty",
    ];

    LimitsWholePages => ["the_page_limit_applies_to_each_partition"];
    RepeatsTheLast => [
        "readers_at_the_tail_miss_nothing",
        "a_load_starts_after_a_version",
        "concatenated_pages_are_the_log",
        "a_subscription_yields_existing_then_new_events",
        "a_subscription_starts_after_the_given_positions",
        "a_subscription_sees_commits_of_another_process",
        "many_readers_see_the_same_events",
    ];
    ReadsAllPartitions => ["a_page_holds_only_the_requested_partitions"];
    SortsById => ["long_streams_load_in_order"];
    ReadsOnePage => ["long_streams_load_in_order"];
    LeaksConnections::default() => ["abandoned_loads_block_nothing"];
    SharesNothing => ["another_process_reads_the_same"];

    LastSnapshotWins::default() => [
        "older_snapshots_never_replace_newer_ones",
        "snapshots_are_kept_by_fingerprint",
        "a_snapshot_needs_its_event_at_its_version",
        "a_snapshot_needs_the_id_of_its_event",
    ];
    TrustsSnapshots => ["a_snapshot_needs_the_id_of_its_event"];
    KeepsStaleSnapshots => [
        "snapshots_above_a_version_are_deleted",
        "old_snapshots_of_other_fingerprints_are_deleted",
    ];
    ForgetsSnapshots => [
        "snapshots_round_trip",
        "a_snapshot_shortens_a_load",
        "the_newest_of_concurrent_snapshots_stays",
    ];

    CutsToFit => [
        "payloads_beyond_the_limit_are_rejected",
        "metadata_beyond_the_limit_is_rejected",
        "malformed_metadata_is_rejected",
        "nul_characters_are_rejected",
        "reserved_names_are_rejected",
        "invalid_inbox_entries_are_rejected",
    ];
    ShortColumns => [
        "payloads_of_every_size_round_trip",
        "metadata_at_the_limit_round_trips",
    ];
    EndsAtNul => ["nul_bytes_in_payloads_round_trip"];
    DropsUnusualMetadata => ["unusual_metadata_is_stored_exactly_or_rejected"];
    FoldsNames => [
        "unusual_stream_names_work",
        "similar_stream_names_are_different",
        "long_stream_names_work",
    ];

    ErasesNothing => [
        "erasing_overwrites_content_and_nothing_else",
        "erasing_covers_queued_rows_of_a_sender_without_events",
        "erasing_is_idempotent",
        "followers_see_an_erasure",
        "erasing_makes_concurrent_appends_conflict",
        "a_stream_continues_after_an_erasure",
    ];
    ErasesOnlyEvents => [
        "erasing_deletes_snapshots_and_outcomes",
        "erasing_clears_content_of_rows_and_timers",
    ];
    ErasesTooMuch => ["erasing_leaves_other_streams_alone"];
    DeletesErased => [
        "erasing_overwrites_content_and_nothing_else",
        "erasing_keeps_a_stream_closed",
    ];
    NeverCloses => [
        "closing_ends_a_stream",
        "closing_is_idempotent",
        "a_closed_stream_rejects_appends_without_events",
        "closing_cancels_all_timers",
    ];
    ClosesAnywhere => ["closing_checks_the_version"];
    OverridesAnything::default() => [
        "overriding_replaces_the_content_that_is_read",
        "overriding_needs_content_to_replace",
        "erasing_deletes_overrides",
    ];

    NeedsEventsForEffects => ["outbox_rows_without_events_are_stored"];
    ForgetsOutbox => [
        "outbox_rows_are_stored_in_order",
        "a_repeated_append_stores_its_outbox_rows_once",
    ];
    MakesOneTimerChange => [
        "arming_replaces_and_cancelling_removes_a_timer",
        "timer_changes_of_one_append_apply_in_order",
    ];
    KeepsTimersOfCompleted => [
        "completing_a_stream_cancels_its_timers",
        "parked_timers_are_cancelled_like_armed_ones",
    ];
    KeepsRowsOfConflicts => ["a_conflict_stores_no_outbox_rows"];
    TimersByIdOnly::default() => [
        "timers_belong_to_one_stream",
        "timers_are_due_by_the_clock_of_the_store",
    ];

    StealsLeases => [
        "a_free_lease_is_acquired_once",
        "a_renewed_lease_does_not_expire",
        "one_of_many_claimants_acquires_a_lease",
    ];
    NeverRaisesEpochs => [
        "epochs_rise_with_every_acquisition",
        "epochs_are_at_least_the_requested_one",
    ];
    NeverExpires => ["an_expired_lease_can_be_acquired", "members_expire"];
    SeizesNothing => ["a_held_lease_can_be_seized"];
    FailsWholeRounds => ["each_lease_change_succeeds_or_fails_alone"];
    MixesLeases => [
        "members_are_announced_and_withdrawn",
        "leases_are_ordered_by_worker_and_partition",
    ];
    CountsNoOverrides => ["overriding_replaces_the_content_that_is_read"];
    HidesPauses => ["a_pause_is_visible_to_all_processes"];
    ForgetsWhoPaused => ["a_pause_is_visible_to_all_processes"];
    ForgetsCheckpoints => [
        "checkpoints_are_ordered_by_partition",
        "checkpoints_advance_together_with_queued_rows",
    ];
    KeepsNoUnleasedCheckpoints => ["checkpoints_without_a_lease_only_move_forward"];
    NeverRewinds => ["a_rewound_checkpoint_gets_a_new_epoch"];
    RewindsToTheBeginning => ["a_rewound_checkpoint_gets_a_new_epoch"];
    GoesBack::default() => ["checkpoints_without_a_lease_only_move_forward"];
    QueuesParkedRows => ["rows_parked_without_an_attempt_are_listed_last"];
    QueuesRepeatedAdvances => ["a_repeated_checkpoint_advance_queues_nothing"];
    IgnoresEpochs => [
        "checkpoints_are_fenced",
        "settling_outbox_rows_is_fenced",
        "settling_timers_is_fenced_and_of_one_arming",
        "resolving_is_fenced_and_needs_a_decision",
    ];
    SwallowsRejections => [
        "queued_rows_belong_to_the_checkpoint_partition",
        "an_outbox_settlement_is_of_one_partition",
        "a_timer_settlement_is_of_one_partition",
    ];

    ReversesRows => ["outbox_rows_are_read_in_commit_order"];
    KeepsRowsOfConflicts => ["outbox_rows_of_a_conflict_are_not_read"];
    LimitsAllQueues => ["outbox_queues_are_separate", "many_outbox_queues_are_read_at_once"];
    RowsAppearLate::default() => ["no_row_commits_behind_a_readers_position"];
    ForgetsReplacements => [
        "settling_deletes_handled_rows_and_queues_new_ones_last",
        "two_holders_settle_a_row_once",
        "handled_timers_are_deleted",
    ];
    AnswersTwice => [
        "settling_a_missing_row_has_no_effect",
        "two_holders_settle_a_row_once",
    ];
    RetriesAtOnce => [
        "failed_outbox_rows_wait_for_their_retry",
        "many_outbox_rows_are_settled_at_once",
        "failed_timers_are_due_again",
        "many_timer_queues_are_read_and_settled_at_once",
    ];
    TakesBegunForFailed => ["started_outbox_rows_are_recorded", "started_timers_are_recorded"];
    PassesParked => ["a_parked_row_blocks_its_sender_and_recipient"];
    HidesQueues => [
        "summaries_count_every_queue",
        "summaries_count_due_timers",
    ];
    CountsToTwo => [
        "summaries_end_at_the_limit",
        "counts_of_waiting_rows_end_at_the_limit",
    ];
    ListsTwice => ["blocked_streams_are_listed_once"];
    MixesLastPositions => ["the_last_sequences_are_those_of_the_last_rows"];

    IgnoresFires => [
        "firing_removes_exactly_its_arming",
        "firing_works_before_the_deadline_and_without_events",
        "firing_another_arming_is_stale",
        "firing_a_timer_of_another_stream_is_stale",
        "a_stale_firing_leaves_the_rest_of_its_batch_alone",
        "concurrent_firings_take_effect_once",
    ];
    FiresAfterArming => [
        "firing_keeps_a_timer_armed_under_the_same_id",
        "a_fired_arming_may_be_armed_again_with_another_deadline",
    ];
    ChecksTimersFirst => [
        "a_repeated_firing_is_committed",
        "duplicates_and_closing_come_before_stale_timers",
    ];
    ChecksVersionsBeforeTimers => ["firing_another_arming_is_stale"];
    DueAtOnce => [
        "timers_become_due_in_time",
        "ten_thousand_waiting_timers_do_not_hide_a_due_one",
    ];
    MixesTimers => [
        "due_timers_are_read_earliest_first",
        "timers_round_trip",
    ];
    DatesTimersNow => ["due_timers_are_read_earliest_first"];
    IgnoresCategories => ["timer_queues_are_separate"];
    KeepsTimersOfCompleted => ["timers_of_completed_or_closed_streams_are_not_due"];
    ClearsTimersLast => ["completing_a_stream_cancels_its_timers"];

    ForgetsErrors => ["dead_letters_hold_the_parked_rows"];
    EndsWithPartition => ["dead_letters_are_read_in_pages_and_in_order"];
    EndsAfterAPage => ["a_page_may_start_after_a_deleted_dead_letter"];
    LosesLongNames => ["dead_letters_may_have_the_longest_names"];
    ShowsAllAsHeads => ["only_the_first_dead_letter_of_a_pair_is_decided"];
    DecidesAnything => ["only_the_first_dead_letter_of_a_pair_is_decided"];
    RedrivesToTheEnd => [
        "redriven_rows_keep_their_place",
        "a_row_parked_twice_is_one_dead_letter",
    ];
    RedrivesAll => ["a_redrive_keeps_rows_with_their_own_errors_parked"];
    HoldsUpEarlierOnes => ["a_redrive_keeps_rows_with_their_own_errors_parked"];
    AnswersNobody => ["discarded_rows_are_deleted_and_answered"];
    DropsParked => ["parked_timers_are_due_again_when_redriven"];
    ErasesNothing => ["erasing_clears_content_of_all_queued_rows"];

    PrunesAll => [
        "old_inbox_entries_are_pruned_in_small_numbers",
        "recent_inbox_entries_stay",
        "inbox_entries_of_other_partitions_stay",
    ];
    PrunesWhatWaits::default() => ["inbox_entries_of_queued_rows_stay"];
}
