//! Which cases find which defect, and that every case finds one.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use composable_rust_testing::conformance::{CASES, Case, Failure, run};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};

use super::defects::*;
use super::store::{Broken, Defect};

const THREADS: &str = "runs cases that are to fail";

/// Runs `work` on threads whose panics print nothing: hundreds are expected.
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

/// What the case finds in a store with this defect, of one or of three partitions.
async fn finding<D: Defect>(case: Case, make: impl Fn() -> D) -> Result<(), Failure> {
    run(case, Broken::new(make(), 3)).await?;
    run(case, Broken::new(make(), 1)).await
}

fn case(name: &str) -> Case {
    let found = CASES.iter().find(|case| format!("{case:?}") == name);
    *found.unwrap_or_else(|| panic!("there is no case {name}"))
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
fn who_never_wakes_is_found_by_waiting() {
    quietly(async {
        for name in WAITING {
            let finding = finding(case(name), || NeverWakes);
            let outcome = tokio::time::timeout(Duration::from_millis(300), finding).await;
            assert!(outcome.is_err(), "{name} does not wait: {outcome:?}");
        }
    });
}

#[test]
fn the_order_test_says_what_is_missed() {
    quietly(async {
        let order = case("order::readers_at_the_tail_miss_nothing");
        // Of one partition, so that the numbers have no gaps of their own. The order in which the
        // writers overtake each other is the scheduler's, and may give another finding first.
        let mut findings = Vec::new();
        for _ in 0..20 {
            let found = run(order, Broken::new(OffsetsFromSequence::default(), 1)).await;
            let Err(Failure(found)) = found else { continue };
            if found.contains("missed") && found.contains("(version ") {
                return;
            }
            findings.push(found);
        }
        panic!("none of 20 runs says what is missed: {findings:#?}");
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
    let listed: BTreeSet<_> =
        table().iter().map(|(_, case, _)| *case).chain(WAITING).map(str::to_owned).collect();
    let cases: BTreeSet<_> = CASES.iter().map(|case| format!("{case:?}")).collect();
    assert_eq!(listed, cases, "the table lists every case");
}

/// Cases that show by not coming to an end that nobody wakes them.
const WAITING: [&str; 6] = [
    "subscribe::a_reader_that_waits_sees_the_first_event",
    "subscribe::waiting_ends_when_there_are_events",
    "waking::appends_with_effects_wake",
    "waking::what_workers_queue_wakes",
    "waking::decisions_wake",
    "waking::what_was_missed_is_there_at_once",
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
    ForgetsMarks => [
        "marks::come_before_versions",
        "marks::come_before_closing",
        "marks::one_duplicate_undoes_the_drain",
        "marks::without_events_are_recognised_again",
    ];
    IgnoresVersions => [
        "conflicts::exact_admits_only_that_version",
        "conflicts::empty_admits_only_the_first_append",
        "conflicts::without_events_conflict_too",
        "conflicts::leave_nothing_behind",
        "conflicts::one_of_many_writers_wins",
        "marks::of_a_losing_append_are_not_kept",
        "order::readers_at_the_tail_miss_nothing",
    ];
    TakesAnyForEmpty => ["conflicts::any_admits_all"];
    TakesExistsForAny => ["conflicts::exists_admits_any_but_the_first"];
    RenamesEvents => [
        "unknown_outcome::the_same_append_again_is_committed_once",
        "unknown_outcome::it_is_recognised_after_the_stream_moved_on",
        "unknown_outcome::a_dropped_append_is_resolved",
        "unknown_outcome::a_dropped_batch_is_resolved",
        "erasure::a_closed_stream_recognises_earlier_appends",
        "group_commit::lost_answers_are_asked_for_again",
        "group_commit::a_dropped_append_is_resolved",
    ];
    AppendsTwice => [
        "unknown_outcome::of_identical_appends_at_once_one_takes_effect",
        "conflicts::writers_on_many_streams_do_not_disturb_each_other",
        "reads::heads_are_the_highest_offsets",
        "group_commit::appends_to_one_stream_keep_their_order",
        "group_commit::the_guilty_fails_alone",
    ];
    HidesWhereTheStreamStands => [
        "unknown_outcome::it_is_recognised_after_the_stream_moved_on",
        "marks::without_events_are_recognised_again",
        "erasure::an_erased_append_is_not_appended_again",
        "erasure::a_closed_stream_recognises_earlier_appends",
        "firing::sent_again_it_is_committed",
    ];
    ComparesFirstEvents => ["unknown_outcome::other_events_at_its_place_are_a_conflict"];
    ForgetsAtomicity => ["batches::an_append_is_seen_whole_or_not_at_all"];
    LosesWholeBatches => [
        "batches::a_losing_append_leaves_its_neighbours_alone",
        "group_commit::losers_leave_their_neighbours_alone",
    ];
    SkipsTheGuilty => ["batches::a_guilty_append_is_found_one_by_one"];
    MovesAppends => ["batches::belong_to_one_partition_and_different_streams"];
    AnswersInItsOrder => ["batches::are_answered_in_their_order"];
    RefusesEmptyBatches => ["batches::may_be_empty"];
    RefusesLargeBatches => ["batches::may_be_large"];
    CountsFromZero => [
        "versions::count_from_one",
        "versions::are_of_each_stream",
        "versions::an_append_without_events_only_checks",
        "versions::the_verdict_names_the_last_event",
        "group_commit::what_waits_together_is_committed_together",
    ];
    SaysYes => ["conflicts::leave_nothing_behind", "limits::reserved_names_are_refused"];
    WritesNothing => ["versions::events_come_back_as_they_went_in"];
    OffsetsFromSequence::default() => [
        "order::readers_at_the_tail_miss_nothing",
        "batches::number_their_events_without_a_gap",
        "conflicts::leave_nothing_behind",
        "conflicts::writers_that_decide_again_all_get_through",
        "group_commit::two_processes_all_get_through",
    ];
    WaitsForTransactions::default() => ["order::foreign_transactions_do_not_hold_readers_back"];
    UpdatesCounters => ["order::old_snapshots_do_not_slow_appends_down"];
    MisplacesEvents => [
        "partition_hash::golden_vectors_are_where_they_were",
        "partition_hash::events_lie_where_the_hash_says",
    ];

    TrustsMarks => [
        "marks::the_first_answer_stays",
        "marks::another_answer_is_a_duplicate",
        "marks::another_digest_is_another_message",
        "unknown_outcome::marks_that_stand_with_other_events_are_a_duplicate",
        "erasure::an_erased_append_is_not_appended_again",
    ];
    ComparesIds => [
        "unknown_outcome::other_content_under_the_same_ids_is_not_the_same_append",
        "unknown_outcome::other_content_is_told_apart_within_a_batch",
    ];
    ReportsOneDuplicate => ["marks::all_duplicates_are_reported"];
    ComparesVersionsFirst => ["marks::come_before_versions"];
    BlursMarks => [
        "marks::keep_where_each_message_left_the_stream",
        "marks::of_refusals_have_no_position",
    ];
    SharesMarks::default() => ["marks::belong_to_one_stream"];
    NeverEmpty => [
        "marks::unknown_ones_are_none",
        "reads::leave_nothing_behind",
        "reads::an_unknown_stream_is_empty",
    ];

    LimitsWholePages => ["reads::pages_hold_so_many_events_of_each_partition"];
    RepeatsTheLast => [
        "order::readers_at_the_tail_miss_nothing",
        "reads::start_after_a_version",
        "reads::pages_put_together_are_the_log",
        "subscribe::what_is_there_comes_then_what_is_committed",
        "subscribe::it_starts_after_the_given_positions",
        "subscribe::commits_of_another_process_are_seen",
        "subscribe::many_readers_see_the_same",
    ];
    ReadsAllPartitions => ["reads::pages_hold_only_the_partitions_asked_for"];
    SortsById => ["reads::long_streams_come_in_order"];
    ReadsOnePage => ["reads::long_streams_come_in_order"];
    LeaksConnections::default() => ["reads::abandoned_loads_hold_nothing_back"];
    SharesNothing => ["reads::another_process_sees_the_same"];

    LastSnapshotWins::default() => [
        "snapshots::older_ones_never_replace_newer_ones",
        "snapshots::are_kept_by_fingerprint",
        "snapshots::stand_only_where_their_event_does",
        "snapshots::stand_only_on_their_own_events",
    ];
    BelievesSnapshots => ["snapshots::stand_only_on_their_own_events"];
    KeepsStaleSnapshots => [
        "snapshots::above_a_version_are_deleted",
        "snapshots::of_other_shapes_are_deleted_when_they_are_old",
    ];
    ForgetsSnapshots => [
        "snapshots::come_back_as_they_went_in",
        "snapshots::shorten_a_load",
        "snapshots::the_highest_of_concurrent_saves_stays",
    ];

    CutsToFit => [
        "limits::payloads_beyond_the_limit_are_refused",
        "limits::metadata_beyond_the_limit_is_refused",
        "limits::what_is_no_metadata_is_refused",
        "limits::nul_characters_are_refused",
        "limits::reserved_names_are_refused",
        "limits::marks_that_make_no_sense_are_refused",
    ];
    ShortColumns => [
        "limits::payloads_of_every_size_come_back",
        "limits::metadata_at_the_limit_comes_back",
    ];
    EndsAtNul => ["limits::nul_bytes_in_payloads_come_back"];
    ForgetsHardMetadata => ["limits::metadata_that_is_hard_to_keep_is_kept_or_refused"];
    FoldsNames => [
        "names::odd_ones_work",
        "names::that_look_alike_are_different",
        "names::long_ones_work",
    ];

    ErasesNothing => [
        "erasure::overwrites_content_and_nothing_else",
        "erasure::a_sender_without_events_is_erased_from_the_queues",
        "erasure::is_asked_again_without_effect",
        "erasure::followers_are_told",
        "erasure::whoever_was_before_it_loses_on_version",
        "erasure::a_stream_goes_on_after_it",
    ];
    ErasesOnlyEvents => [
        "erasure::takes_snapshots_and_answers_along",
        "outbox_timers::erasing_takes_their_content",
    ];
    ErasesTooMuch => ["erasure::leaves_other_streams_alone"];
    DeletesErased => [
        "erasure::overwrites_content_and_nothing_else",
        "erasure::erasing_keeps_a_stream_closed",
    ];
    NeverCloses => [
        "erasure::closing_ends_a_stream",
        "erasure::closing_again_is_committed",
        "erasure::closing_refuses_even_an_append_without_events",
        "outbox_timers::closing_takes_all_timers",
    ];
    ClosesAnywhere => ["erasure::closing_checks_the_version"];
    OverridesAnything::default() => [
        "erasure::overriding_replaces_what_is_read",
        "erasure::overriding_needs_content_to_replace",
        "erasure::erasing_takes_overrides_along",
    ];

    NeedsEventsForEffects => ["outbox_timers::effects_without_events_are_stored"];
    ForgetsOutbox => [
        "outbox_timers::effects_wait_in_their_order",
        "outbox_timers::effects_of_the_same_append_again_are_stored_once",
    ];
    MakesOneTimerChange => [
        "outbox_timers::arming_replaces_and_cancelling_removes",
        "outbox_timers::changes_of_one_append_are_made_in_order",
    ];
    KeepsTimersOfFinished => [
        "outbox_timers::finishing_takes_all_timers",
        "dead_letters::parked_timers_go_as_armed_ones_do",
    ];
    KeepsEffectsOfLosers => ["outbox_timers::a_losing_append_stores_none"];
    TimersByIdOnly::default() => [
        "outbox_timers::timers_belong_to_one_stream",
        "outbox_timers::timers_are_due_by_the_stores_clock",
    ];

    StealsLeases => [
        "leases::a_free_one_is_claimed_once",
        "leases::a_renewed_one_does_not_lapse",
        "leases::of_many_claimers_one_wins",
    ];
    EpochsStandStill => [
        "leases::epochs_rise_with_every_claim",
        "leases::epochs_are_at_least_what_the_claimer_gives",
    ];
    NeverLapses => ["leases::a_lapsed_one_changes_hands", "leases::members_lapse"];
    SeizesNothing => ["leases::a_held_one_is_seized"];
    ChangesTogether => ["leases::each_change_succeeds_or_fails_alone"];
    MixesLeases => [
        "leases::members_are_announced_and_withdrawn",
        "leases::come_in_order_of_workers_and_partitions",
    ];
    CountsNoOverrides => ["erasure::overriding_replaces_what_is_read"];
    HidesPauses => ["leases::a_pause_is_shown_to_all"];
    ForgetsCheckpoints => [
        "checkpoints::come_back_in_order_of_partitions",
        "checkpoints::move_with_what_is_queued",
    ];
    KeepsNoPositions => ["checkpoints::without_a_lease_only_move_forwards"];
    NeverRewinds => ["checkpoints::rewound_ones_begin_anew_under_another_epoch"];
    RewindsToTheBeginning => ["checkpoints::rewound_ones_begin_anew_under_another_epoch"];
    GoesBack::default() => ["checkpoints::without_a_lease_only_move_forwards"];
    TriesWhatIsParked => ["dead_letters::without_an_attempt_stand_at_the_end"];
    QueuesAgain => ["checkpoints::the_same_again_adds_nothing"];
    IgnoresEpochs => [
        "checkpoints::are_fenced",
        "outbox::settling_is_fenced",
        "timers::settling_is_fenced_and_of_one_arming",
        "dead_letters::resolving_is_fenced_and_needs_a_decision",
    ];
    SwallowsRefusals => [
        "checkpoints::belong_to_one_partition",
        "outbox::settlements_are_of_one_partition",
        "timers::settlements_are_of_one_partition",
    ];

    ReversesRows => ["outbox::rows_come_in_the_order_of_commits"];
    KeepsEffectsOfLosers => ["outbox::rows_of_a_losing_append_do_not_come"];
    LimitsAllQueues => ["outbox::queues_are_apart", "outbox::many_queues_are_read_at_once"];
    RowsAppearLate::default() => ["outbox::nothing_is_queued_behind_a_reader"];
    ForgetsReplacements => [
        "outbox::what_is_done_goes_and_others_come_last",
        "outbox::two_holders_settle_a_row_once",
        "timers::done_ones_go",
    ];
    AnswersTwice => [
        "outbox::what_is_gone_is_settled_without_effect",
        "outbox::two_holders_settle_a_row_once",
    ];
    RetriesAtOnce => [
        "outbox::failed_ones_wait",
        "outbox::many_are_settled_at_once",
        "timers::failed_ones_are_due_again",
        "timers::many_queues_are_read_and_settled_at_once",
    ];
    TakesBegunForFailed => ["outbox::begun_ones_are_known", "timers::begun_ones_are_known"];
    PassesParked => ["outbox::parked_ones_hold_their_pair"];
    HidesQueues => [
        "summaries::show_every_queue_with_its_counts",
        "summaries::count_timers_that_are_due",
    ];
    CountsToTwo => [
        "summaries::end_at_the_limit",
        "summaries::counts_of_queues_end_at_the_limit",
    ];
    ListsTwice => ["outbox::streams_are_listed_once"];
    MixesLastPlaces => ["outbox::last_places_are_those_of_the_last_rows"];

    IgnoresFires => [
        "firing::takes_exactly_its_arming",
        "firing::works_before_the_deadline_and_without_events",
        "firing::of_a_timer_that_is_not_armed_so_is_void",
        "firing::of_another_stream_is_void",
        "firing::a_void_one_leaves_nothing_and_disturbs_no_neighbour",
        "firing::of_two_at_once_one_takes_effect",
    ];
    FiresAfterArming => ["firing::what_it_arms_under_the_same_id_stays"];
    VoidFirst => [
        "firing::sent_again_it_is_committed",
        "firing::duplicates_and_ends_come_before_void",
    ];
    ConflictsBeforeVoid => ["firing::of_a_timer_that_is_not_armed_so_is_void"];
    DueAtOnce => [
        "timers::become_due_in_time",
        "timers::ten_thousand_that_wait_do_not_hide_one",
    ];
    MixesTimers => [
        "timers::due_ones_come_earliest_first",
        "timers::come_back_as_they_were_armed",
    ];
    DatesTimersNow => ["timers::due_ones_come_earliest_first"];
    IgnoresCategories => ["timers::queues_are_apart"];
    KeepsTimersOfFinished => ["timers::of_what_is_finished_or_closed_are_not_due"];
    ClearsTimersLast => ["outbox_timers::finishing_takes_all_timers"];

    ForgetsErrors => ["dead_letters::hold_what_was_parked"];
    EndsWithPartition => ["dead_letters::come_in_pages_and_in_order"];
    EndsAfterAPage => ["dead_letters::go_on_behind_one_that_has_gone"];
    LosesLongNames => ["dead_letters::may_have_the_longest_names"];
    ShowsAllAsHeads => ["dead_letters::only_heads_are_decided"];
    DecidesAnything => ["dead_letters::only_heads_are_decided"];
    RedrivesToTheEnd => [
        "dead_letters::redriven_they_are_where_they_were",
        "dead_letters::one_that_is_parked_twice_is_one",
    ];
    RedrivesAll => ["dead_letters::those_with_errors_of_their_own_stay_behind"];
    HoldsUpEarlierOnes => ["dead_letters::those_with_errors_of_their_own_stay_behind"];
    AnswersNobody => ["dead_letters::refused_they_go_and_are_answered"];
    DropsParked => ["dead_letters::timers_are_parked_and_due_again"];
    ErasesNothing => ["dead_letters::erasing_takes_content_of_all_that_waits"];

    PrunesAll => [
        "pruning::old_marks_go_in_small_numbers",
        "pruning::young_marks_stay",
        "pruning::marks_of_other_partitions_stay",
    ];
    PrunesWhatWaits::default() => ["pruning::marks_of_what_waits_stay"];
}
