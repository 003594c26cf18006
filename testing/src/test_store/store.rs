use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::panic::Location;
use std::time::Duration;

use composable_rust_core::{Clock as _, Effects, Reducer, Timestamp};

use super::effects::copies;
use super::running::{FinishedEffects, Running};
use crate::MockClock;
use crate::failure::{Failure, code};

/// So many effects that end one after the other, at one moment, are taken for a circle.
const MAX_STEPS: usize = 10_000;

/// Runs a [`Reducer`] step by step and makes the test say everything that happens.
///
/// - [`send`](TestStore::send) reduces an action; its closure turns the state from before into the
///   one that is expected after.
/// - [`effects`](TestStore::effects) says what the last action returned, with the constructors that
///   the reducer uses.
/// - [`receive`](TestStore::receive) says which action an effect brought back.
/// - [`advance`](TestStore::advance) lets time pass. The store has its own; nothing is waited for.
/// - [`finish`](TestStore::finish) says that this was all.
///
/// A change of the state, an effect, an action that came back, or an effect that still runs, of
/// which the test says nothing, fails it: at the next step, at `finish`, or when the store is
/// dropped. [`non_exhaustive`](TestStore::non_exhaustive) turns that off.
///
/// # What runs
///
/// Delays and `Cancel` run by the store's clock, `Parallel` and `Sequential` by their structure,
/// futures by being polled in every step. What would leave the store (`publish`, `dispatch`,
/// `tell`, `call`, and what `AggregateReducer` records) is only compared; a `database` effect waits
/// for [`respond`](TestStore::respond). No runtime is needed; for futures that need tokio's timers
/// or sockets use `#[tokio::test]` and [`settle`](TestStore::settle).
///
/// # Example: a search that waits until nobody types
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
    /// After everything that happened.
    pub(super) latest: R::State,
    /// After everything that the test said.
    pub(super) state: R::State,
    /// What happened and was not said yet.
    pub(super) received: VecDeque<ReceivedAction<R>>,
    /// The last thing that was said.
    pub(super) last: Option<Step<R::Action>>,
    pub(super) running: Running<R::Action>,
    pub(super) exhaustive: bool,
    pub(super) show_skipped: bool,
    pub(super) finished: bool,
    pub(super) made: &'static Location<'static>,
}

/// An action that an effect brought back.
pub(super) struct ReceivedAction<R: Reducer> {
    pub(super) action: R::Action,
    pub(super) after: R::State,
    pub(super) effects: Effects<R::Action>,
}

/// An action that the test said, and what it returned.
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
    /// A store at `state`, whose clock stands at [`Timestamp::EPOCH`].
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

    /// The same on `clock`: the one that the environment holds, so that reducer, futures and delays
    /// share one time.
    #[must_use]
    pub fn clock(mut self, clock: &MockClock) -> Self {
        self.running.set_clock(clock.clone());
        self
    }

    /// The same, failing only for what the test says and what is otherwise.
    ///
    /// In this mode the closures of `send` and `receive` get the state from *after* the action and
    /// must leave it as it is: write what fields are (`state.count = 2`), not how they change.
    /// `receive` passes over other actions, `effects` over other effects, and whatever is never
    /// said is nobody's concern.
    #[must_use]
    pub fn non_exhaustive(mut self) -> Self {
        self.exhaustive = false;
        self
    }

    /// The same, non-exhaustive, and printing what is passed over.
    #[must_use]
    pub fn show_skipped(mut self) -> Self {
        self.exhaustive = false;
        self.show_skipped = true;
        self
    }

    /// Sends `action`; `change` turns the state from before into the expected one.
    ///
    /// # Panics
    ///
    /// When the state is another than expected, or when something that happened before is not said:
    /// effects of the last action, or actions that came back.
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

    /// Lets `duration` pass, stopping at each moment at which something is due.
    ///
    /// # Panics
    ///
    /// Only if the reducer or a future does: the actions that come back are said with
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

    /// The present moment of the store's clock.
    pub fn now(&self) -> Timestamp {
        self.running.clock().now()
    }

    /// The state after everything that the test said; actions that came back and are not yet
    /// received are not in it.
    pub fn state(&self) -> &R::State {
        &self.state
    }

    /// The environment, for what its doubles saw.
    pub fn env(&self) -> &R::Environment {
        &self.env
    }

    /// Reduces, starts the effects, and returns a copy of them.
    pub(super) fn reduce(&mut self, action: R::Action) -> Effects<R::Action> {
        let effects = self.reducer.reduce(&mut self.latest, action, &self.env);
        let copies = copies(&effects);
        self.running.start_all(effects);
        copies
    }

    /// Brings back every action that is ready, and those that these lead to.
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

    /// Handles the end of an effect, and lets what waited for it go on.
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
