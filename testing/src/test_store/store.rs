use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::panic::Location;
use std::time::Duration;

use composable_rust_core::environment::Clock as _;
use composable_rust_core::{Effects, Reducer, Timestamp};

use super::effects::copies;
use super::running::{FinishedEffects, Running};
use crate::MockClock;
use crate::failure::{Failure, code};

/// The number of effects ending one after the other at one moment that is taken for a cycle.
const MAX_STEPS: usize = 10_000;

/// Runs a [`Reducer`] step by step and makes the test assert everything that happens.
///
/// - [`send`](TestStore::send) reduces an action; its closure turns the previous state into the
///   expected one.
/// - [`effects`](TestStore::effects) asserts the last action's effects, with the constructors that
///   the reducer uses.
/// - [`receive`](TestStore::receive) asserts an action that an effect returned.
/// - [`advance`](TestStore::advance) moves the store's own clock, without waiting.
/// - [`finish`](TestStore::finish) asserts that nothing else happened.
///
/// The test fails on a state change, an effect, a returned action or a running effect that it does
/// not assert: at the next step, at `finish`, or when the store is dropped.
/// [`non_exhaustive`](TestStore::non_exhaustive) turns this off.
///
/// # Execution of effects
///
/// Delays and `Cancel` run on the store's clock, `Parallel` and `Sequential` by their structure,
/// and futures are polled in every step. Effects that would leave the store (`publish`, `dispatch`,
/// `tell`, `call`, and records of `AggregateReducer`) are only compared; a `database` effect waits
/// for [`respond`](TestStore::respond). No runtime is needed; for futures that need tokio's timers
/// or sockets use `#[tokio::test]` and [`settle`](TestStore::settle).
///
/// # Example: a search that waits until the user stops typing
///
/// ```
/// use std::time::Duration;
///
/// use composable_rust_core::prelude::*;
/// use composable_rust_testing::TestStore;
///
/// struct Search;
///
/// #[derive(Debug, Clone, PartialEq, Default)]
/// struct State { text: String, searches: u32 }
///
/// #[derive(Debug, Clone, PartialEq)]
/// enum Action { Typed(&'static str), Paused }
///
/// const PAUSE: Duration = Duration::from_millis(300);
///
/// impl Reducer for Search {
///     type State = State;
///     type Action = Action;
///     type Environment = ();
///
///     fn reduce(&self, state: &mut State, action: Action, _: &()) -> Effects<Action> {
///         match action {
///             Action::Typed(text) => {
///                 state.text = text.to_owned();
///                 effects![after(PAUSE, Action::Paused).with_id("pause")]
///             }
///             Action::Paused => {
///                 state.searches += 1;
///                 effects![]
///             }
///         }
///     }
/// }
///
/// let mut store = TestStore::new(Search, State::default(), ());
/// store.send(Action::Typed("ru"), |state| state.text = "ru".to_owned());
/// store.effects(effects![after(PAUSE, Action::Paused).with_id("pause")]);
/// store.advance(Duration::from_millis(200));
///
/// // Typing again replaces the delay.
/// store.send(Action::Typed("rust"), |state| state.text = "rust".to_owned());
/// store.effects(effects![after(PAUSE, Action::Paused).with_id("pause")]);
/// store.advance(PAUSE);
/// store.receive(Action::Paused, |state| state.searches = 1);
/// store.finish();
/// ```
pub struct TestStore<R: Reducer>
where
    R::State: Debug + Clone + PartialEq,
    R::Action: Debug + Clone + PartialEq + 'static,
{
    pub(super) reducer: R,
    pub(super) env: R::Environment,
    /// The state after everything that happened.
    pub(super) latest: R::State,
    /// The state after everything that the test asserted.
    pub(super) state: R::State,
    /// Returned actions that are not yet asserted.
    pub(super) received: VecDeque<ReceivedAction<R>>,
    /// The last assertion.
    pub(super) last: Option<Step<R::Action>>,
    pub(super) running: Running<R::Action>,
    pub(super) exhaustive: bool,
    pub(super) show_skipped: bool,
    pub(super) finished: bool,
    pub(super) made: &'static Location<'static>,
}

/// An action that an effect returned.
pub(super) struct ReceivedAction<R: Reducer> {
    pub(super) action: R::Action,
    pub(super) after: R::State,
    pub(super) effects: Effects<R::Action>,
}

/// An asserted action, and its effects.
pub(super) struct Step<A> {
    pub(super) verb: &'static str,
    pub(super) action: String,
    pub(super) line: &'static Location<'static>,
    pub(super) effects: Effects<A>,
    pub(super) effects_said: bool,
}

impl<R: Reducer> TestStore<R>
where
    R::State: Debug + Clone + PartialEq,
    R::Action: Debug + Clone + PartialEq + 'static,
{
    /// A store at `state`, whose clock is at [`Timestamp::EPOCH`].
    #[track_caller]
    pub fn new(reducer: R, state: R::State, env: R::Environment) -> Self {
        Self {
            reducer,
            env,
            latest: state.clone(),
            state,
            received: VecDeque::new(),
            last: None,
            running: Running::new(MockClock::new()),
            exhaustive: true,
            show_skipped: false,
            finished: false,
            made: Location::caller(),
        }
    }

    /// Sets the clock to that of the environment, so that reducer, futures and delays share one
    /// time.
    #[must_use]
    pub fn clock(mut self, clock: &MockClock) -> Self {
        self.running.set_clock(clock.clone());
        self
    }

    /// Makes the store compare only what the test asserts.
    ///
    /// In this mode the closures of `send` and `receive` get the state from *after* the action and
    /// must leave it unchanged: write the values of fields (`state.count = 2`), not their changes.
    /// `receive` skips other actions, `effects` skips other effects, and anything not asserted is
    /// ignored.
    #[must_use]
    pub fn non_exhaustive(mut self) -> Self {
        self.exhaustive = false;
        self
    }

    /// Makes the store non-exhaustive, and prints what it skips.
    #[must_use]
    pub fn show_skipped(mut self) -> Self {
        self.exhaustive = false;
        self.show_skipped = true;
        self
    }

    /// Sends `action`; `change` turns the previous state into the expected one.
    ///
    /// # Panics
    ///
    /// Panics if the state differs, or if effects of the previous action or returned actions are
    /// not asserted.
    #[track_caller]
    pub fn send(&mut self, action: R::Action, change: impl FnOnce(&mut R::State)) {
        self.nothing_left_unsaid("send another action");
        let name = code(&action, false);
        let effects = self.reduce(action);
        let step = Step {
            verb: "send",
            action: name,
            line: Location::caller(),
            effects,
            effects_said: false,
        };
        let after = self.latest.clone();
        self.check_state(&step, after, change);
        self.last = Some(step);
        self.run();
    }

    /// Moves the clock by `duration`, stopping at each moment at which an effect is due.
    ///
    /// # Panics
    ///
    /// Panics only if the reducer or a future does: assert the returned actions with
    /// [`TestStore::receive`].
    #[track_caller]
    pub fn advance(&mut self, duration: Duration) {
        self.run();
        let until = self.now() + duration;
        while let Some(due) = self.running.next_deadline().filter(|due| *due <= until) {
            self.running.clock().set(due.max(self.now()));
            self.run();
        }
        self.running.clock().set(until);
        self.run();
    }

    /// The current time of the store's clock.
    pub fn now(&self) -> Timestamp {
        self.running.clock().now()
    }

    /// The state after everything that the test asserted, without returned actions that are not yet
    /// received.
    pub fn state(&self) -> &R::State {
        &self.state
    }

    /// The environment, to inspect its test doubles.
    pub fn env(&self) -> &R::Environment {
        &self.env
    }

    /// Reduces the action, starts its effects, and returns a copy of them.
    pub(super) fn reduce(&mut self, action: R::Action) -> Effects<R::Action> {
        let effects = self.reducer.reduce(&mut self.latest, action, &self.env);
        let copies = copies(&effects);
        self.running.start_all(effects);
        copies
    }

    /// Reduces every returned action that is ready, and those that follow from them.
    #[track_caller]
    pub(super) fn run(&mut self) {
        for _ in 0..MAX_STEPS {
            match self.running.next_done() {
                Some(done) => self.come_back(done),
                None => return,
            }
        }
        Failure::new(format!(
            "{MAX_STEPS} effects came to their end and time stood still: each brings back an action \
             that returns the next."
        ))
        .text("The last of them, in order:")
        .block(self.last_received(5))
        .text("Let some time pass between them, `after(duration, …)`, or end the circle.")
        .raise()
    }

    /// Handles the end of an effect, and continues the effects that waited for it.
    pub(super) fn come_back(&mut self, done: FinishedEffects<R::Action>) {
        if let Some(action) = done.action {
            let effects = self.reduce(action.clone());
            self.received.push_back(ReceivedAction { action, after: self.latest.clone(), effects });
        }
        self.running.go_on_after(done.parent);
    }

    fn last_received(&self, count: usize) -> String {
        let last = self.received.iter().skip(self.received.len().saturating_sub(count));
        last.map(|received| code(&received.action, false)).collect::<Vec<_>>().join("\n")
    }
}

impl<R: Reducer> Debug for TestStore<R>
where
    R::State: Debug + Clone + PartialEq,
    R::Action: Debug + Clone + PartialEq + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestStore")
            .field("state", &self.state)
            .field("now", &self.now())
            .field("running", &self.running.describe())
            .finish_non_exhaustive()
    }
}
