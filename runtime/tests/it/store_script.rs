//! A reducer whose actions carry the effects that it returns, so that each test says its own.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::{Clock as _, Effect, Effects, Reducer, future};
use composable_rust_runtime::Store;
use composable_rust_testing::MockClock;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) enum Action {
    /// Is written down.
    Note(&'static str),
    /// Is written down, and returns effects.
    Run(&'static str, Arc<dyn Fn() -> Effects<Action> + Send + Sync>),
    /// Is written down, and then panics.
    Panic,
}

pub(crate) use Action::{Note, Panic};

/// Returns `effects`, without a note.
pub(crate) fn run(effects: impl Fn() -> Effects<Action> + Send + Sync + 'static) -> Action {
    Action::Run("", Arc::new(effects))
}

/// Writes `note` down and returns `effects`.
pub(crate) fn note_and(
    note: &'static str,
    effects: impl Fn() -> Effects<Action> + Send + Sync + 'static,
) -> Action {
    Action::Run(note, Arc::new(effects))
}

/// Writes down what it is told.
pub(crate) struct Script;

impl Reducer for Script {
    type State = Vec<&'static str>;
    type Action = Action;
    type Environment = ();

    fn reduce(&self, notes: &mut Self::State, action: Action, (): &()) -> Effects<Action> {
        match action {
            Note(note) => {
                notes.push(note);
                Effects::none()
            }
            Action::Run(note, effects) => {
                if !note.is_empty() {
                    notes.push(note);
                }
                effects()
            }
            Panic => {
                notes.push("half-applied");
                panic!("the reducer is broken")
            }
        }
    }
}

/// A store that has written nothing yet, and its clock.
pub(crate) fn store() -> (Store<Script>, MockClock) {
    let clock = MockClock::new();
    (Store::builder(Script, Vec::new(), ()).clock(clock.clone()).build(), clock)
}

pub(crate) fn notes(store: &Store<Script>) -> Vec<&'static str> {
    store.state(Clone::clone)
}

/// A future that brings `note` back after so many seconds of `clock`.
pub(crate) fn slow(clock: &MockClock, seconds: u32, note: &'static str) -> Effect<Action> {
    let sleep = clock.sleep(SECOND * seconds);
    future(async move {
        sleep.await;
        Some(Note(note))
    })
}

/// Lets tasks of this thread come as far as they can.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}
