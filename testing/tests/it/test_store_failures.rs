//! The messages of a test store to wrong tests, stored in `snapshots/`.

use std::time::Duration;

use composable_rust_core::effect::{DbOperation, DbOutcome};
use composable_rust_core::prelude::*;
use composable_rust_core::{StreamId, Version, database};
use composable_rust_testing::{MockClock, TestStore, any_future};

use crate::failing::assert_says;
use crate::test_store::{Note, Notes, Page, SECOND, done, message, plan, planned, store, wait};

/// A store that runs plan `n`, with every effect asserted.
#[track_caller]
fn running(n: u32) -> TestStore<Notes> {
    let mut store = store();
    store.send(Note::Plan(n), planned);
    store.effects(plan(n, &MockClock::new()));
    store
}

#[test]
fn an_unasserted_change_fails() {
    assert_says!("store_unsaid_change", || store().send(Note::Done("a"), |_| {}));
}

#[test]
fn an_unexpected_change_fails() {
    assert_says!("store_wrong_change", || store().send(Note::Done("a"), done("b")));
}

#[test]
fn a_missing_change_fails() {
    assert_says!("store_change_expected", || {
        TestStore::new(Still, 1, ()).send(Moved, |state| *state = 2);
    });
}

/// A reducer that never changes its state.
struct Still;
#[derive(Debug, Clone, PartialEq)]
struct Moved;

impl Reducer for Still {
    type State = i64;
    type Action = Moved;
    type Environment = ();

    fn reduce(&self, _: &mut i64, _: Moved, (): &()) -> Effects<Moved> {
        effects![]
    }
}

/// States that print alike and differ.
#[test]
fn different_states_that_print_alike_fail() {
    struct Measure;
    impl Reducer for Measure {
        type State = f64;
        type Action = ();
        type Environment = ();

        fn reduce(&self, state: &mut f64, (): (), (): &()) -> Effects<()> {
            *state = f64::NAN;
            effects![]
        }
    }
    assert_says!("store_states_print_alike", || {
        TestStore::new(Measure, 1.0, ()).send((), |state| *state = f64::NAN);
    });
}

#[test]
fn unasserted_effects_fail() {
    assert_says!("store_unsaid_effects_at_send", || {
        let mut store = store();
        store.send(Note::Plan(1), planned);
        store.send(Note::Done("a"), done("a"));
    });
    assert_says!("store_unsaid_effects_at_receive", || {
        let mut store = running(9);
        store.advance(SECOND * 2);
        store.receive(Note::Plan(9), planned);
        store.receive(Note::Plan(9), planned);
    });
    assert_says!("store_unsaid_effects_at_finish", || {
        let mut store = store();
        store.send(Note::Plan(2), planned);
        store.finish();
    });
    assert_says!("store_unsaid_effects_at_drop", || {
        store().send(Note::Plan(8), planned);
    });
}

#[test]
fn unexpected_effects_fail() {
    assert_says!("store_wrong_effect", || {
        let mut store = store();
        store.send(Note::Plan(1), planned);
        store.effects(effects![wait(2, "late"), wait(3, "early")]);
    });
    assert_says!("store_missing_effect", || {
        let mut store = store();
        store.send(Note::Plan(0), planned);
        store.effects(effects![cancel("pair")]);
    });
    assert_says!("store_unexpected_effect", || {
        let mut store = store();
        store.send(Note::Plan(7), planned);
        store.effects(effects![]);
    });
    assert_says!("store_wrong_nested_effects", || {
        let mut store = store();
        store.send(Note::Plan(2), planned);
        store.effects(effects![sequential(effects![
            wait(2, "first").with_id("id"),
            publish(message("u")),
            any_future(),
            wait(1, "second"),
        ])]);
    });
    assert_says!("store_effects_before_send", || store().effects(effects![]));
}

#[test]
fn unreceived_actions_fail() {
    assert_says!("store_unreceived_at_send", || {
        let mut store = running(1);
        store.advance(SECOND);
        store.send(Note::Done("a"), done("a"));
    });
    assert_says!("store_unreceived_at_finish", || {
        let mut store = running(1);
        store.advance(SECOND * 2);
        store.finish();
    });
    assert_says!("store_unreceived_at_drop", || running(1).advance(SECOND));
}

#[test]
fn missing_actions_fail() {
    assert_says!("store_nothing_came_back", || {
        store().receive(Note::Done("a"), done("a"));
    });
    assert_says!("store_not_yet_come_back", || {
        let mut store = running(3);
        store.receive(Note::Done("a"), done("a"));
    });
    assert_says!("store_no_match_came_back", || {
        let mut store = running(8);
        store.receive_matching(|note| matches!(note, Note::Done(_)), |_| {});
    });
}

#[test]
fn unexpected_actions_fail() {
    assert_says!("store_other_action", || {
        let mut store = running(1);
        store.advance(SECOND);
        store.receive(Note::Done("soon"), done("soon"));
    });
    assert_says!("store_other_action_first", || {
        let mut store = running(1);
        store.advance(SECOND * 2);
        store.receive(Note::Done("late"), done("late"));
    });
    assert_says!("store_other_than_matched", || {
        let mut store = running(1);
        store.advance(SECOND);
        store.receive_matching(|note| matches!(note, Note::Plan(_)), planned);
    });
    assert_says!("store_wrong_change_at_receive", || {
        let mut store = running(1);
        store.advance(SECOND);
        store.receive(Note::Done("early"), |_| {});
    });
}

#[test]
fn running_effects_fail() {
    assert_says!("store_running_at_finish", || running(1).finish());
    assert_says!("store_running_at_drop", || drop(running(8)));
    assert_says!("store_endless", || {
        let mut store = store();
        store.send(Note::Plan(12), planned);
    });
}

#[test]
fn pending_futures_fail() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_says!("store_settle_without_future", || {
        runtime.block_on(async { running(1).settle(SECOND).await });
    });
    assert_says!("store_settle_limit", || {
        runtime.block_on(async { running(8).settle(Duration::from_millis(1)).await });
    });
}

/// A reducer that reads the event store.
struct Asks;

fn everything() -> DbOperation {
    let stream = StreamId::new("order", "1").unwrap();
    DbOperation::LoadEvents { stream, after: Version::ZERO }
}

impl Reducer for Asks {
    type State = ();
    type Action = u64;
    type Environment = ();

    fn reduce(&self, (): &mut (), action: u64, (): &()) -> Effects<u64> {
        match action {
            0 => effects![database(everything(), |result| u64::from(result.is_ok()))],
            _ => effects![],
        }
    }
}

#[test]
fn database_effects_without_a_result_fail() {
    assert_says!("store_database_running", || {
        let mut store = TestStore::new(Asks, (), ());
        store.send(0, |()| {});
        store.skip_effects();
        store.finish();
    });
    assert_says!("store_database_none", || {
        TestStore::new(Asks, (), ()).respond(Ok(DbOutcome::Saved));
    });
}

#[test]
fn skipping_nothing_fails() {
    assert_says!("store_skip_effects", || {
        let mut store = store();
        store.send(Note::Done("a"), done("a"));
        store.skip_effects();
    });
    assert_says!("store_skip_received", || store().skip_received());
    assert_says!("store_skip_running", || store().skip_running());
}

#[test]
fn a_non_exhaustive_store_fails_on_a_false_assertion() {
    assert_says!("store_part_of_state", || {
        let mut store = store().non_exhaustive();
        store.send(Note::Plan(0), |page| page.plans += 1);
    });
    assert_says!("store_part_of_effects", || {
        let mut store = store().non_exhaustive();
        store.send(Note::Plan(1), |page: &mut Page| page.plans = 1);
        store.effects(effects![after(Duration::from_millis(1_500), Note::Done("late"))]);
    });
}
