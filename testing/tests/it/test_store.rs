//! The effects that a test store runs, and their order.

use std::time::Duration;

use composable_rust_core::bus::BusMessage;
use composable_rust_core::environment::Clock as _;
use composable_rust_core::prelude::*;
use composable_rust_testing::{MockClock, TestStore, any_future};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Notes its actions, and returns the effects of plans.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// Adds a line.
    Done(&'static str),
    /// Returns the effects of plan number `n`.
    Plan(u32),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Page {
    pub(crate) lines: Vec<&'static str>,
    pub(crate) plans: u32,
}

pub(crate) fn done(line: &'static str) -> impl FnOnce(&mut Page) {
    move |page| page.lines.push(line)
}

pub(crate) fn planned(page: &mut Page) {
    page.plans += 1;
}

pub(crate) fn wait(seconds: u32, line: &'static str) -> Effect<Note> {
    let Some(delay) = effects![after(SECOND * seconds, Note::Done(line))].into_iter().next() else {
        unreachable!("the list has one effect")
    };
    delay
}

pub(crate) fn message(topic: &str) -> BusMessage {
    BusMessage { topic: topic.to_owned(), key: "k".to_owned(), headers: vec![], payload: vec![7] }
}

pub(crate) fn plan(n: u32, clock: &MockClock) -> Effects<Note> {
    match n {
        1 => effects![wait(2, "late"), wait(1, "early")],
        2 => effects![sequential(effects![
            wait(2, "first"),
            publish(message("t")),
            wait(1, "second")
        ])],
        3 => effects![sequential(effects![
            parallel(effects![wait(3, "a"), wait(1, "b")]),
            future(async { Some(Note::Done("both")) })
        ])],
        4 => effects![parallel(effects![wait(1, "x"), wait(2, "y")]).with_id("pair")],
        5 => effects![cancel("pair")],
        6 => effects![sequential(effects![wait(1, "x").with_id("step"), wait(1, "y")])],
        7 => effects![cancel("step")],
        8 => {
            let clock = clock.clone();
            effects![future(async move {
                clock.sleep(SECOND * 5).await;
                Some(Note::Done("slept"))
            })]
        }
        9 => effects![after(SECOND, Note::Plan(9))],
        10 => effects![future(async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Some(Note::Done("tokio"))
        })],
        11 => effects![future(async {
            tokio::task::yield_now().await;
            None
        })],
        12 => effects![after(Duration::ZERO, Note::Plan(12))],
        13 => {
            Effects::from_iter([wait(1, "in")]).cancellable("whole").then(effects![wait(1, "out")])
        }
        _ => effects![],
    }
}

impl Reducer for Notes {
    type State = Page;
    type Action = Note;
    type Environment = MockClock;

    fn reduce(&self, page: &mut Page, action: Note, clock: &MockClock) -> Effects<Note> {
        match action {
            Note::Done(line) => page.lines.push(line),
            Note::Plan(n) => {
                page.plans += 1;
                return plan(n, clock);
            }
        }
        effects![]
    }
}

#[track_caller]
pub(crate) fn store() -> TestStore<Notes> {
    let clock = MockClock::new();
    TestStore::new(Notes, Page::default(), clock.clone()).clock(&clock)
}

/// A store that runs plan `n`.
#[track_caller]
fn running(n: u32) -> TestStore<Notes> {
    let mut store = store();
    store.send(Note::Plan(n), planned);
    store.effects(plan(n, &MockClock::new()));
    store
}

#[test]
fn delays_end_in_order_of_time() {
    let mut store = running(1);
    store.advance(SECOND * 2);
    store.receive(Note::Done("early"), done("early"));
    store.receive(Note::Done("late"), done("late"));
    assert_eq!(store.state().lines, ["early", "late"]);
    store.finish();
}

#[test]
fn a_sequence_waits_for_each_step() {
    let mut store = running(2);
    store.advance(SECOND * 2);
    store.receive(Note::Done("first"), done("first"));
    store.advance(SECOND);
    store.receive(Note::Done("second"), done("second"));
    store.finish();
}

#[test]
fn a_sequence_waits_for_all_of_a_parallel_step() {
    let mut store = running(3);
    store.advance(SECOND * 2);
    store.receive(Note::Done("b"), done("b"));
    store.advance(SECOND);
    store.receive(Note::Done("a"), done("a"));
    store.receive(Note::Done("both"), done("both"));
    store.finish();
}

#[test]
fn cancelling_an_id_ends_all_nested_effects() {
    let mut store = running(4);
    store.advance(SECOND);
    store.receive(Note::Done("x"), done("x"));
    store.send(Note::Plan(5), planned);
    store.effects(effects![cancel("pair")]);
    store.finish();
}

#[test]
fn an_id_in_use_is_replaced() {
    let mut store = running(4);
    store.advance(SECOND);
    store.receive(Note::Done("x"), done("x"));
    store.send(Note::Plan(4), planned);
    store.effects(plan(4, &MockClock::new()));
    store.advance(SECOND);
    store.receive(Note::Done("x"), done("x"));
    store.advance(SECOND);
    store.receive(Note::Done("y"), done("y"));
    store.finish();
}

#[test]
fn a_sequence_continues_after_a_cancelled_step() {
    let mut store = running(6);
    store.send(Note::Plan(7), planned);
    store.effects(effects![cancel("step")]);
    store.advance(SECOND);
    store.receive(Note::Done("y"), done("y"));
    store.finish();
}

#[test]
fn combinators_run_as_they_are_built() {
    let mut store = running(13);
    store.advance(SECOND);
    store.receive(Note::Done("in"), done("in"));
    store.advance(SECOND);
    store.receive(Note::Done("out"), done("out"));
    store.finish();
}

#[test]
fn futures_sleep_by_the_clock_of_the_store() {
    let mut store = running(8);
    store.advance(SECOND * 5);
    store.receive(Note::Done("slept"), done("slept"));
    assert_eq!(store.now().as_micros(), 5_000_000);
    store.finish();
}

#[test]
fn a_returned_action_returns_effects_too() {
    let mut store = running(9);
    store.advance(SECOND * 2);
    for _ in 0..2 {
        store.receive(Note::Plan(9), planned);
        store.effects(effects![after(SECOND, Note::Plan(9))]);
    }
    store.skip_running();
    store.finish();
}

#[tokio::test]
async fn futures_may_need_tokio() {
    let mut store = running(10);
    store.settle(SECOND * 5).await;
    store.receive(Note::Done("tokio"), done("tokio"));
    store.finish();
}

#[test]
fn futures_that_wake_themselves_need_no_runtime() {
    let store = running(11);
    store.finish();
}

#[test]
fn unpredictable_actions_are_matched_by_pattern() {
    let mut store = running(1);
    store.advance(SECOND * 2);
    store.receive_matching(|note| matches!(note, Note::Done(_)), done("early"));
    store.skip_received();
    assert_eq!(store.state().lines, ["early", "late"]);
    store.finish();
}

#[test]
fn a_non_exhaustive_store_compares_only_assertions() {
    let mut store = store().non_exhaustive();
    store.send(Note::Plan(1), |_| {});
    store.effects(effects![wait(1, "early")]);
    store.send(Note::Plan(8), |page| page.plans = 2);
    store.effects(effects![any_future()]);
    store.advance(SECOND * 2);
    store.receive(Note::Done("late"), |page| page.lines = vec!["early", "late"]);
    store.send(Note::Plan(0), |_| {});
    assert_eq!(store.state().plans, 3);
}

#[test]
fn a_store_is_dropped_silently_while_its_test_fails() {
    let said = crate::failing::said(|| {
        let _store = running(1);
        panic!("for a reason of its own");
    });
    assert_eq!(said.message, "for a reason of its own");
}

#[test]
fn failures_show_the_line_of_the_test() {
    let mut line = 0;
    let said = crate::failing::said(|| {
        let mut store = store();
        line = line!() + 1;
        store.send(Note::Done("a"), |_| {});
    });
    assert_eq!((said.line, said.file.ends_with("test_store.rs")), (line, true));
}
