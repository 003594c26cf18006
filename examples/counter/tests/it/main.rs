//! The rules of the counter, and the program.

use std::process::Command;

use composable_rust::testing::{TestStore, given};
use counter::{Counter, CounterCommand, CounterError, CounterEvent, Tally, TallyAction};

#[test]
fn a_tally_counts_up_and_down() {
    let mut store = TestStore::new(Tally, 0, ());
    store.send(TallyAction::Increment, |count| *count = 1);
    store.send(TallyAction::Decrement, |count| *count = 0);
    store.send(TallyAction::Decrement, |count| *count = -1);
    store.finish();
}

#[test]
fn a_counter_counts_up_and_down() {
    given::<Counter>([])
        .when(CounterCommand::Increment)
        .then([CounterEvent::Incremented])
        .then_state(Counter { count: 1 });
    given::<Counter>([CounterEvent::Incremented, CounterEvent::Incremented])
        .when(CounterCommand::Decrement)
        .then([CounterEvent::Decremented])
        .then_state(Counter { count: 1 });
}

#[test]
fn a_counter_never_falls_below_zero() {
    given::<Counter>([]).when(CounterCommand::Decrement).then_rejected(CounterError::AtZero);
}

#[test]
fn the_program_prints_the_counts() {
    let output = Command::new(env!("CARGO_BIN_EXE_counter")).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text,
        "The tally is 1.\nThe counter is 2.\nIts stream has 2 events.\n\
         After the first event it was 1.\n"
    );
}
