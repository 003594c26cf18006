//! The checks of every scenario that need no assertion.

use composable_rust_core::effect::{CallGateway, Reaction};
use composable_rust_core::message::Incoming;
use composable_rust_core::{Aggregate, Context, Decision, Message, Reactions, StreamId, Version};
use uuid::Uuid;

use super::scenario::Scenario;
use crate::encoding::{any_failure, message_failure, read_back, state_failure};
use crate::failure::{Failure, code, effects_block, pretty};

/// A command that was decided, applied and reacted to.
pub(super) struct Run<A: Aggregate> {
    pub(super) decision: Decision<A>,
    /// The reactions of all events, then the effects of the decision itself.
    pub(super) reactions: Reactions<A::Command>,
}

impl<A: Aggregate> Run<A> {
    pub(super) fn of(
        scenario: &Scenario<A>,
        incoming: &Incoming,
        env: &A::Environment,
        command: &A::Command,
    ) -> Self {
        let version = scenario.history.iter().fold(Version::ZERO, |version, _| version.next());
        let ctx = Context::new(Uuid::nil(), &scenario.id, version, incoming, env);
        let mut state = scenario.state.clone();
        let decision = state.decide(command.clone(), &ctx);
        let mut reactions = Reactions::none();
        if let Ok(outcome) = &decision {
            if !outcome.repeated {
                for event in &outcome.events {
                    state.apply(event.clone());
                    reactions = reactions.merge(state.react(event, &ctx));
                }
            }
            reactions = reactions.merge(outcome.effects.clone());
        }
        Self { decision, reactions }
    }

    /// The problem that an app would have with the outcome, if any.
    pub(super) fn failure(&self, command: &A::Command) -> Option<Failure> {
        let what = message_failure("The command", command);
        let answer = || match &self.decision {
            Ok(outcome) => outcome.events.iter().find_map(|e| event("The recorded event", e)),
            Err(rejection) => message_failure("The rejection", rejection),
        };
        what.or_else(answer).or_else(|| self.reactions.iter().find_map(refused))
    }

    /// The difference to `again`, the decision of the same command in the same state, if any.
    pub(super) fn differs(&self, again: &Self, command: &A::Command) -> Option<Failure> {
        let command = code(command, false);
        if self.decision != again.decision {
            let (first, second) = (answer(&self.decision), answer(&again.decision));
            return Some(unequal(
                &format!(
                    "`{command}` was decided twice in the same state and led to different things."
                ),
                &first,
                &second,
            ));
        }
        if self.reactions != again.reactions {
            let (first, second) = (printed(&self.reactions), printed(&again.reactions));
            return Some(unequal(
                &format!(
                    "`{command}` was handled twice in the same state and set different things in \
                     motion."
                ),
                &first,
                &second,
            ));
        }
        None
    }
}

fn unequal(what: &str, first: &str, second: &str) -> Failure {
    Failure::new(what).diff(first, second).text(
        "After a conflict a command is decided again, so `decide` and `react` may look only at the \
         state, the message, `ctx` and what `ctx.env()` fixes. Take the time from `ctx.now()`, ids \
         from `ctx.new_id()`; no clock, no random number, no `HashMap` whose order shows.",
    )
}

fn answer<A: Aggregate>(decision: &Decision<A>) -> String {
    match decision {
        Ok(outcome) => pretty(outcome),
        Err(rejection) => pretty(rejection),
    }
}

fn printed<C: Message>(reactions: &Reactions<C>) -> String {
    effects_block(&reactions.clone().into_iter().map(Into::into).collect())
}

/// The failure of an event to survive encoding, if it does not.
pub(super) fn event<E: Message>(what: &str, event: &E) -> Option<Failure> {
    message_failure(what, event)
}

/// Compares the state with a second fold of the history, in memory and as stored, and with its
/// snapshot.
pub(super) fn fold<A: Aggregate>(scenario: &Scenario<A>) -> Option<Failure> {
    let again = scenario.history.iter().cloned().fold(A::default(), applied);
    if again != scenario.state {
        return Some(other_fold(
            "Applying the same events twice led to different states.",
            scenario,
            &again,
        ));
    }
    let stored = scenario.history.iter().filter_map(read_back).fold(A::default(), applied);
    if stored != scenario.state {
        return Some(other_fold(
            "The events as they are stored lead to another state.",
            scenario,
            &stored,
        ));
    }
    state_failure(&scenario.state)
}

fn applied<A: Aggregate>(mut state: A, event: A::Event) -> A {
    state.apply(event);
    state
}

fn other_fold<A: Aggregate>(what: &str, scenario: &Scenario<A>, other: &A) -> Failure {
    Failure::new(what).diff(&pretty(&scenario.state), &pretty(other)).text(
        "`apply` runs again whenever the instance is loaded, so it may look only at the state \
         and the event: no clock, no random number, no global. What it needs of them belongs \
         in the event.",
    )
}

/// The problem that an app would have with the idempotency key of a call, if any.
fn invalid_key(call: &CallGateway) -> Option<Failure> {
    let key = call.idempotency_key.as_ref()?;
    let caller = StreamId::new("caller", "1").ok()?;
    let error = key.resolve(Uuid::nil(), &caller, call.gateway).err()?;
    let failure = Failure::new(format!(
        "The call of `{}` has an invalid idempotency key: {error}.",
        code(&call.request, false)
    ));
    Some(failure.text("An app refuses to store it."))
}

/// The problem that an app would have with storing the effects, if any.
fn refused<C: Message>(reaction: &Reaction<C>) -> Option<Failure> {
    match reaction {
        Reaction::Delay(delay) if !delay.action.kind().internal => Some(
            Failure::new(format!(
                "`{}` is sent by a timer, and its variant is not internal, so anybody might \
                 send it.",
                code(&delay.action, false)
            ))
            .text("An app refuses to arm it. Mark the variant in the command's enum:")
            .block("#[message(internal)]"),
        ),
        Reaction::Delay(delay) => message_failure("The delayed command", &delay.action),
        Reaction::DispatchCommand(dispatch) if dispatch.command.kind().internal => Some(
            Failure::new(format!(
                "`{}` is dispatched to `{}`, and it is internal: only the runtime delivers it.",
                code(&dispatch.command, false),
                dispatch.recipient
            ))
            .text(
                "An app refuses to send it. Give the target a command that others may send, and \
                 let it decide from there.",
            ),
        ),
        Reaction::DispatchCommand(dispatch) => {
            any_failure("The dispatched command", &dispatch.command)
        }
        Reaction::CallGateway(call) => {
            invalid_key(call).or_else(|| any_failure("The gateway's request", &call.request))
        }
        Reaction::Reply(answer) => any_failure("The answer", &answer.event),
        _ => None,
    }
}
