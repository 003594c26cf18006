//! Actions that effects return.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::panic::Location;
use std::time::Duration;

use composable_rust_core::Reducer;
use composable_rust_core::effect::DbOutcome;
use composable_rust_core::store::StoreError;

use super::TestStore;
use super::running::FinishedEffects;
use super::store::{ReceivedAction, Step};
use crate::failure::{Failure, code, pretty};

impl<R: Reducer> TestStore<R>
where
    R::State: Debug + Clone + PartialEq,
    R::Action: Debug + Clone + PartialEq + 'static,
{
    /// Asserts that `action` is the next action that an effect returned. `change` turns the
    /// previous state into the expected one.
    ///
    /// # Panics
    ///
    /// Panics if another action was returned or none was, or the state differs.
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "a test writes it where it expects it")]
    pub fn receive(&mut self, action: R::Action, change: impl FnOnce(&mut R::State)) {
        let name = code(&action, false);
        self.receive_next(
            &name,
            |received| *received == action,
            |received| {
                Failure::new("Another action came back than the test expects.")
                    .diff(&pretty(&action), &pretty(received))
            },
            change,
        );
    }

    /// As [`receive`](TestStore::receive), for an action that satisfies `is_expected`: one with
    /// values that the test cannot predict.
    ///
    /// # Panics
    ///
    /// As `receive`.
    #[track_caller]
    pub fn receive_matching(
        &mut self,
        is_expected: impl Fn(&R::Action) -> bool,
        change: impl FnOnce(&mut R::State),
    ) {
        let other = |received: &R::Action| {
            Failure::new("An action came back that is not one which the test expects:")
                .block(pretty(received))
        };
        self.receive_next("an action that the closure knows", is_expected, other, change);
    }

    #[track_caller]
    fn receive_next(
        &mut self,
        name: &str,
        is_expected: impl Fn(&R::Action) -> bool,
        other: impl Fn(&R::Action) -> Failure,
        change: impl FnOnce(&mut R::State),
    ) {
        self.run();
        self.effects_said("receive another action");
        if !self.exhaustive {
            self.pass_over(&is_expected);
        }
        let Some(next) = self.received.pop_front() else { self.nothing_came_back(name).raise() };
        if !is_expected(&next.action) {
            let later = self.received.iter().any(|received| is_expected(&received.action));
            let action = code(&next.action, false);
            other(&next.action)
                .text(if later {
                    "The expected one came back later. Say first:".to_owned()
                } else {
                    "If the reducer is right, say:".to_owned()
                })
                .block(format!("store.receive({action}, |state| {{ … }});"))
                .raise();
        }
        let ReceivedAction { action, after, effects } = next;
        let (action, line) = (code(&action, false), Location::caller());
        let step = Step { verb: "receive", action, line, effects, effects_said: false };
        self.check_state(&step, after, change);
        self.last = Some(step);
    }

    /// In a non-exhaustive store, drops the returned actions before the expected one, if it was
    /// returned.
    fn pass_over(&mut self, is_expected: &impl Fn(&R::Action) -> bool) {
        let Some(index) = self.received.iter().position(|r| is_expected(&r.action)) else { return };
        for skipped in self.received.drain(..index) {
            self.state = skipped.after;
            if self.show_skipped {
                eprintln!("passed over: `{:?}` came back", skipped.action);
            }
        }
    }

    fn nothing_came_back(&self, name: &str) -> Failure {
        let failure = Failure::new(format!(
            "The test expects that {} comes back, and nothing did.",
            quoted(name)
        ));
        let running = self.running.describe();
        if running.is_empty() {
            return failure.text(
                "No effect runs that could bring it back. If the reducer is right, remove this \
                 `receive`.",
            );
        }
        failure.text("These effects still run:").block(running.join("\n"))
    }

    /// Completes the oldest waiting `database` effect with `result`, and returns its action to the
    /// store.
    ///
    /// ```
    /// use composable_rust_core::prelude::*;
    /// use composable_rust_core::{StreamId, Version, database};
    /// use composable_rust_core::effect::{DbOperation, DbOutcome};
    /// use composable_rust_testing::TestStore;
    ///
    /// struct Audit;
    /// #[derive(Debug, Clone, PartialEq)]
    /// enum Action { Count, Counted(usize), Failed }
    ///
    /// fn everything() -> DbOperation {
    ///     let stream = StreamId::new("order", "1").unwrap();
    ///     DbOperation::LoadEvents { stream, after: Version::ZERO }
    /// }
    ///
    /// fn counted<E>(result: Result<DbOutcome, E>) -> Action {
    ///     match result {
    ///         Ok(DbOutcome::Events(events)) => Action::Counted(events.len()),
    ///         _ => Action::Failed,
    ///     }
    /// }
    ///
    /// impl Reducer for Audit {
    ///     type State = Option<usize>;
    ///     type Action = Action;
    ///     type Environment = ();
    ///
    ///     fn reduce(&self, count: &mut Option<usize>, action: Action, _: &()) -> Effects<Action> {
    ///         match action {
    ///             Action::Count => return effects![database(everything(), counted)],
    ///             Action::Counted(events) => *count = Some(events),
    ///             Action::Failed => *count = None,
    ///         }
    ///         effects![]
    ///     }
    /// }
    ///
    /// let mut store = TestStore::new(Audit, None, ());
    /// store.send(Action::Count, |_| {});
    /// store.effects(effects![database(everything(), counted)]);
    /// store.respond(Ok(DbOutcome::Events(Vec::new())));
    /// store.receive(Action::Counted(0), |count| *count = Some(0));
    /// store.finish();
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if no database effect waits.
    #[track_caller]
    pub fn respond(&mut self, result: Result<DbOutcome, StoreError>) {
        self.run();
        let Some((database, parent)) = self.running.take_database() else {
            Failure::new("No database effect waits for an answer.")
                .text(
                    "Each `store.respond(…)` answers one `database(…)` effect, in the order in \
                     which they started. Remove this one, or send the action that returns the \
                     effect first.",
                )
                .raise()
        };
        self.come_back(FinishedEffects { action: Some((database.then)(result)), parent });
        self.run();
    }

    /// Waits in real time until a future completes: for futures that need tokio's timers, sockets
    /// or other tasks. In a test with `start_paused = true` tokio's timers take no time.
    ///
    /// # Panics
    ///
    /// Panics if no future runs, or none completes within `limit`. Needs a runtime with timers, as
    /// `#[tokio::test]` has.
    ///
    /// # Cancel safety
    ///
    /// A dropped call leaves the futures running.
    #[track_caller]
    pub fn settle(&mut self, limit: Duration) -> impl Future<Output = ()> + '_ {
        let line = Location::caller();
        async move {
            let came = self.received.len();
            self.run();
            if self.received.len() > came {
                return;
            }
            if !self.running.has_futures() {
                Failure::new(format!("No future runs that {line} could wait for.")).raise();
            }
            let done = poll_fn(|cx| self.running.poll(cx));
            match tokio::time::timeout(limit, done).await {
                Ok(done) => {
                    self.come_back(done);
                    self.run();
                }
                Err(_) => Failure::new(format!("No future was done {limit:?} after {line}."))
                    .text("These effects still run:")
                    .block(self.running.describe().join("\n"))
                    .raise(),
            }
        }
    }
}

fn quoted(name: &str) -> String {
    if name.starts_with("an action") { name.to_owned() } else { format!("`{name}`") }
}
