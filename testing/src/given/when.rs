use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use composable_rust_core::{Aggregate, Effects, Reactions, Timestamp};

use super::answer::{GivenOutcome, wrong};
use super::check::{self, Run};
use super::environment::ProvidedEnvironment;
use super::scenario::{Given, Scenario};
use crate::failure::{Failure, code, effects_block, effects_code, pretty};

/// A command and its outcome, until the test has asserted it; see [`given`](crate::given).
pub struct When<A: Aggregate> {
    scenario: Scenario<A>,
    env: Arc<A::Environment>,
    unsaid: Unasserted<A>,
}

/// The assertions that are still missing.
#[derive(Debug)]
struct Unasserted<A: Aggregate> {
    command: String,
    line: &'static Location<'static>,
    /// The state in which the command was decided.
    before: A,
    answer: GivenOutcome<A>,
    answer_said: bool,
    reactions: Reactions<A::Command>,
    reactions_said: bool,
}

#[expect(clippy::return_self_not_must_use, reason = "a test may end with any of them")]
#[expect(clippy::needless_pass_by_value, reason = "a test writes values where it expects them")]
impl<A: Aggregate> When<A> {
    #[track_caller]
    pub(super) fn decide(
        mut scenario: Scenario<A>,
        env: Arc<A::Environment>,
        command: &A::Command,
    ) -> Self {
        let incoming = scenario.next_incoming();
        let run = Run::of(&scenario, &incoming, &env, command);
        let again = Run::of(&scenario, &incoming, &env, command);
        if let Some(failure) = run.failure(command).or_else(|| run.differs(&again, command)) {
            failure.raise();
        }
        let before = scenario.state.clone();
        let answer = GivenOutcome::of(&run.decision);
        if let GivenOutcome::Recorded(events) = &answer {
            for event in events {
                scenario.happen(event.clone());
            }
        }
        if let Some(failure) = check::fold(&scenario) {
            failure.raise();
        }
        let unsaid = Unasserted {
            command: code(command, false),
            line: Location::caller(),
            before,
            answer,
            answer_said: false,
            reactions_said: run.reactions.is_empty(),
            reactions: run.reactions,
        };
        Self { scenario, env, unsaid }
    }

    /// Asserts that the command recorded `events`, in order.
    ///
    /// # Panics
    ///
    /// Panics if it did not.
    #[track_caller]
    pub fn then(self, events: impl IntoIterator<Item = A::Event>) -> Self {
        self.answered(&GivenOutcome::recorded(events))
    }

    /// Asserts that the command was rejected.
    ///
    /// # Panics
    ///
    /// Panics if it was not, or with another rejection.
    #[track_caller]
    pub fn then_rejected(self, rejection: A::Rejection) -> Self {
        self.answered(&GivenOutcome::Rejected(rejection))
    }

    /// Asserts that the command was accepted and recorded nothing.
    ///
    /// # Panics
    ///
    /// Panics if it was rejected, recorded something, or was answered with an event.
    #[track_caller]
    pub fn then_unchanged(self) -> Self {
        self.answered(&GivenOutcome::Unchanged)
    }

    /// Asserts that the command was answered with `event` and recorded nothing.
    ///
    /// # Panics
    ///
    /// Panics if it was not.
    #[track_caller]
    pub fn then_repeated(self, event: A::Event) -> Self {
        self.answered(&GivenOutcome::Repeated(vec![event]))
    }

    /// Asserts that the command recorded events that satisfy `is_expected`: for events with values
    /// that the test cannot predict, such as derived ids.
    ///
    /// # Panics
    ///
    /// Panics if it recorded others, or none.
    #[track_caller]
    pub fn then_matching(mut self, is_expected: impl FnOnce(&[A::Event]) -> bool) -> Self {
        self.unsaid.answer_said = true;
        let Unasserted { command, answer, .. } = &self.unsaid;
        let events = match answer {
            GivenOutcome::Recorded(events) => &events[..],
            _ => &[],
        };
        if !is_expected(events) {
            Failure::new(format!(
                "`{command}` did not record events that the closure knows. It {}.",
                answer.did()
            ))
            .text("It was decided in this state:")
            .block(pretty(&self.unsaid.before))
            .raise();
        }
        self
    }

    /// Asserts the durable effects, with the constructors that the aggregate uses: the reactions to
    /// each event in order, then the effects that `decide` attached with `.with(…)`.
    ///
    /// # Panics
    ///
    /// Panics if the effects differ.
    #[track_caller]
    pub fn reacts(mut self, expected: Reactions<A::Command>) -> Self {
        self.unsaid.reactions_said = true;
        let Unasserted { command, reactions, .. } = &self.unsaid;
        if expected != *reactions {
            wrong_reactions(command, &expected, reactions).raise();
        }
        self
    }

    /// Asserts the current state.
    ///
    /// # Panics
    ///
    /// Panics if the state differs.
    #[track_caller]
    pub fn then_state(self, expected: A) -> Self {
        let Unasserted { command, .. } = &self.unsaid;
        if expected != self.scenario.state {
            Failure::new(format!("The state after `{command}` is not what the test expects."))
                .diff(&pretty(&expected), &pretty(&self.scenario.state))
                .text("It comes from these events, by `apply`:")
                .block(pretty(&self.scenario.history))
                .raise();
        }
        self
    }

    /// Passes the current state to `look`, for further assertions.
    #[track_caller]
    pub fn state(self, look: impl FnOnce(&A)) -> Self {
        look(&self.scenario.state);
        self
    }

    /// Asserts that the instance is finished: its timers are cancelled with these events.
    ///
    /// # Panics
    ///
    /// Panics if it is not.
    #[track_caller]
    pub fn then_finished(self) -> Self {
        if !self.scenario.state.is_finished() {
            Failure::new(format!("The instance is not finished after `{}`.", self.unsaid.command))
                .text("`is_finished` says so in this state:")
                .block(pretty(&self.scenario.state))
                .raise();
        }
        self
    }

    /// Sends the next command to the same instance.
    ///
    /// # Panics
    ///
    /// Panics if the outcome of the previous command is not asserted; otherwise as [`Given::when`].
    #[track_caller]
    pub fn when(self, command: A::Command) -> Self {
        self.next().when(command)
    }

    /// Sets the arrival time of the next command.
    ///
    /// # Panics
    ///
    /// Panics if the outcome of the previous command is not asserted.
    #[track_caller]
    pub fn at(self, now: Timestamp) -> Given<A, ProvidedEnvironment<A>> {
        self.next().at(now)
    }

    /// Sets the user who sends the next command.
    ///
    /// # Panics
    ///
    /// Panics if the outcome of the previous command is not asserted.
    #[track_caller]
    pub fn by(self, user: impl Into<String>) -> Given<A, ProvidedEnvironment<A>> {
        self.next().by(user)
    }

    /// Sets the environment of the next command.
    ///
    /// # Panics
    ///
    /// Panics if the outcome of the previous command is not asserted.
    #[track_caller]
    pub fn env(self, env: A::Environment) -> Given<A, ProvidedEnvironment<A>> {
        self.next().env(env)
    }

    #[track_caller]
    fn next(mut self) -> Given<A, ProvidedEnvironment<A>> {
        let left = self.unsaid.left();
        self.unsaid.silence();
        if let Some(failure) = left {
            failure.text("Do so before the next command.").raise();
        }
        Given { scenario: self.scenario, env: ProvidedEnvironment(self.env) }
    }

    #[track_caller]
    fn answered(mut self, expected: &GivenOutcome<A>) -> Self {
        self.unsaid.answer_said = true;
        let Unasserted { command, before, answer, .. } = &self.unsaid;
        if expected != answer {
            wrong(command, before, expected, answer).raise();
        }
        self
    }
}

impl<A: Aggregate> Unasserted<A> {
    fn silence(&mut self) {
        (self.answer_said, self.reactions_said) = (true, true);
    }

    fn left(&self) -> Option<Failure> {
        let Self { command, answer, .. } = self;
        if !self.answer_said {
            return Some(
                Failure::new(format!("The test does not say what `{command}` leads to."))
                    .text(format!(
                        "It {}. If that is right, write, with your own ids and times:",
                        answer.did()
                    ))
                    .block(format!(".when({command})\n{}", answer.code())),
            );
        }
        (!self.reactions_said).then(|| {
            Failure::new(format!(
                "`{command}` set something in motion, and the test does not say what."
            ))
            .text("If the aggregate is right, write, with your own ids and times:")
            .block(format!(".reacts({})", effects_code(&effects(&self.reactions))))
        })
    }
}

impl<A: Aggregate> Drop for Unasserted<A> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(failure) = self.left() {
            failure.text(format!("The command was sent at {}.", self.line)).raise();
        }
    }
}

fn effects<C: Clone>(reactions: &Reactions<C>) -> Effects<C> {
    reactions.iter().cloned().map(Into::into).collect()
}

fn wrong_reactions<C: fmt::Debug + Clone>(
    command: &str,
    expected: &Reactions<C>,
    reactions: &Reactions<C>,
) -> Failure {
    let (wanted, got) = (effects(expected), effects(reactions));
    if got.is_empty() {
        return Failure::new(format!(
            "The test expects that `{command}` sets something in motion, \
             and it does not."
        ))
        .diff(&effects_block(&wanted), &effects_block(&got))
        .text(
            "If the aggregate is right, remove this `.reacts(…)`. Otherwise return the effects \
             from `react`, for the event after which they follow.",
        );
    }
    let failure =
        Failure::new(format!("`{command}` set other things in motion than the test expects."));
    let (wanted_code, got_code) = (effects_block(&wanted), effects_block(&got));
    let failure = if wanted_code == got_code {
        failure.diff(&pretty(expected), &pretty(reactions))
    } else {
        failure.diff(&wanted_code, &got_code)
    };
    failure
        .text("If the aggregate is right, write, with your own ids and times:")
        .block(format!(".reacts({})", effects_code(&got)))
}

impl<A: Aggregate> fmt::Debug for When<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("When")
            .field("scenario", &self.scenario)
            .field("unsaid", &self.unsaid)
            .finish_non_exhaustive()
    }
}
