//! A reducer whose actions carry their effects, so that each test defines its own.

use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::environment::Clock as _;
use composable_rust_core::{Effect, Effects, Reducer, future};
use composable_rust_runtime::Store;
use composable_rust_testing::MockClock;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) enum Action {
    /// Adds a note.
    Note(&'static str),
    /// Adds a note, and returns effects.
    Run(&'static str, Arc<dyn Fn() -> Effects<Action> + Send + Sync>),
    /// Adds a note, and then panics.
    Panic,
}

pub(crate) use Action::{Note, Panic};

/// Returns `effects`, without a note.
pub(crate) fn run(effects: impl Fn() -> Effects<Action> + Send + Sync + 'static) -> Action {
    Action::Run("", Arc::new(effects))
}

/// Adds `note` and returns `effects`.
pub(crate) fn note_and(
    note: &'static str,
    effects: impl Fn() -> Effects<Action> + Send + Sync + 'static,
) -> Action {
    Action::Run(note, Arc::new(effects))
}

/// Adds the notes of its actions to its state.
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

/// A store without notes, and its clock.
pub(crate) fn store() -> (Store<Script>, MockClock) {
    let clock = MockClock::new();
    (Store::builder(Script, Vec::new(), ()).clock(clock.clone()).build(), clock)
}

pub(crate) fn notes(store: &Store<Script>) -> Vec<&'static str> {
    store.state(Clone::clone)
}

/// A future that returns `note` after `seconds` of `clock`.
pub(crate) fn slow(clock: &MockClock, seconds: u32, note: &'static str) -> Effect<Action> {
    let sleep = clock.sleep(SECOND * seconds);
    future(async move {
        sleep.await;
        Some(Note(note))
    })
}

/// Lets the other tasks of this thread run until they wait.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}
