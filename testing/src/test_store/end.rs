//! The end of a test.

use std::fmt::Debug;

use composable_rust_core::Reducer;

use super::TestStore;
use crate::failure::{Failure, code, effects_code};

impl<R: Reducer> TestStore<R>
where
    R::State: Debug + Clone + PartialEq,
    R::Action: Debug + Clone + PartialEq + 'static,
{
    /// Asserts that nothing more happens. Dropping the store asserts the same; the failure then
    /// shows another line.
    ///
    /// # Panics
    ///
    /// Panics if effects of the last action or returned actions are not asserted, or effects still
    /// run.
    #[track_caller]
    pub fn finish(mut self) {
        self.finished = true;
        self.run();
        if let Some(failure) = self.left_at_the_end() {
            failure.raise();
        }
    }

    /// Skips the returned actions that were not received.
    ///
    /// # Panics
    ///
    /// Panics in an exhaustive store if there are none, or effects of the last action are not
    /// asserted.
    #[track_caller]
    pub fn skip_received(&mut self) {
        self.effects_said("pass over what came back");
        self.run();
        if self.exhaustive && self.received.is_empty() {
            nothing_to_skip("received", "No action came back").raise();
        }
        self.last = None;
        self.received.clear();
        self.state = self.latest.clone();
    }

    /// Skips the assertion of the last action's effects, which run all the same.
    ///
    /// # Panics
    ///
    /// Panics in an exhaustive store if there are none.
    #[track_caller]
    pub fn skip_effects(&mut self) {
        match &mut self.last {
            Some(step) if !step.effects.is_empty() => step.effects_said = true,
            _ if !self.exhaustive => {}
            _ => nothing_to_skip("effects", "The last action returned no effects").raise(),
        }
    }

    /// Cancels the running effects, for a test that ends before they do.
    ///
    /// # Panics
    ///
    /// Panics in an exhaustive store if none runs.
    #[track_caller]
    pub fn skip_running(&mut self) {
        self.run();
        if self.exhaustive && self.running.describe().is_empty() {
            nothing_to_skip("running", "No effect runs").raise();
        }
        self.running.cancel_all();
    }

    /// Fails if anything before a step that wants to `act` is not asserted.
    #[track_caller]
    pub(super) fn nothing_left_unsaid(&mut self, act: &str) {
        self.effects_said(act);
        self.run();
        if self.exhaustive {
            if let Some(failure) = self.unsaid_actions() {
                failure.raise();
            }
        }
        for skipped in self.received.drain(..) {
            if self.show_skipped {
                eprintln!("passed over: `{:?}` came back", skipped.action);
            }
        }
        self.state = self.latest.clone();
    }

    #[track_caller]
    pub(super) fn effects_said(&mut self, act: &str) {
        if let Some(failure) = self.unsaid_effects() {
            if self.exhaustive {
                failure.text(format!("Do so before you {act}.")).raise();
            }
            if self.show_skipped {
                eprintln!("passed over: {failure}");
            }
        }
    }

    pub(super) fn left_at_the_end(&self) -> Option<Failure> {
        if !self.exhaustive {
            return None;
        }
        self.unsaid_effects().or_else(|| self.unsaid_actions()).or_else(|| self.still_running())
    }

    fn unsaid_effects(&self) -> Option<Failure> {
        let step = self.last.as_ref().filter(|step| !step.effects_said)?;
        (!step.effects.is_empty()).then(|| {
            Failure::new(format!(
                "`{}` returned effects, and the test does not say which.",
                step.action
            ))
            .text(format!("If the reducer is right, write after line {}:", step.line.line()))
            .block(format!("store.effects({});", effects_code(&step.effects)))
        })
    }

    fn unsaid_actions(&self) -> Option<Failure> {
        let first = self.received.front()?;
        let action = code(&first.action, false);
        let failure = if self.received.len() == 1 {
            Failure::new(format!(
                "An effect brought back `{action}`, and the test does not say so."
            ))
            .text(
                "If the reducer is right, receive it; the closure makes the change that it means:",
            )
        } else {
            let count = self.received.len();
            let actions = self.received.iter().map(|received| code(&received.action, false));
            Failure::new(format!(
                "Effects brought back {count} actions, and the test does not say so."
            ))
            .block(actions.collect::<Vec<_>>().join("\n"))
            .text(
                "If the reducer is right, receive them in this order; each closure makes the \
                 change that its action means:",
            )
        };
        Some(
            failure
                .block(format!("store.receive({action}, |state| {{ … }});"))
                .text("If this test is not about that, pass over it with `store.skip_received()`."),
        )
    }

    fn still_running(&self) -> Option<Failure> {
        let running = self.running.describe();
        let failure = match running.len() {
            0 => return None,
            1 => Failure::new("The test ends while an effect still runs."),
            count => Failure::new(format!("The test ends while {count} effects still run.")),
        };
        Some(
            failure
                .block(running.join("\n"))
                .text(
                    "Let it come to its end and receive what it brings back, send what cancels \
                     it, or end it:",
                )
                .block("store.skip_running();"),
        )
    }
}

impl<R: Reducer> Drop for TestStore<R>
where
    R::State: Debug + Clone + PartialEq,
    R::Action: Debug + Clone + PartialEq + 'static,
{
    fn drop(&mut self) {
        if self.finished || std::thread::panicking() {
            return;
        }
        self.run();
        if let Some(failure) = self.left_at_the_end() {
            failure
                .text(format!(
                    "The store was made at {} and dropped without `store.finish()`.",
                    self.made
                ))
                .raise();
        }
    }
}

fn nothing_to_skip(what: &str, why: &str) -> Failure {
    Failure::new(format!("{why}, so there is nothing to skip."))
        .text(format!("Remove this `store.skip_{what}()`."))
}
