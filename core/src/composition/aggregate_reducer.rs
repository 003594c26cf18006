//! An aggregate as a reducer.

use crate::message::{AnyMessage, Incoming};
use crate::{
    Aggregate, Context, CorrelationId, Effect, Effects, Id, MessageId, Metadata, Reducer,
    Timestamp, Version,
};

/// An aggregate as a [`Reducer`], for a plain `Store`, for composition and for tests.
///
/// The reducer decides each command, applies its events to the state, and returns the events as
/// [`Effect::Record`], a rejection as [`Effect::Reject`] and the durable reactions as effects. It
/// stores nothing; an app's `Handle` does. Version and clock do not change, so the ids that the
/// aggregate makes are the same for every command. If ids must differ, give each command its own
/// [`Incoming`] with [`AggregateReducer::incoming`].
#[derive(Debug, Clone)]
pub struct AggregateReducer<A> {
    id: Id<A>,
    incoming: Incoming,
}

impl<A: Aggregate> AggregateReducer<A> {
    /// Creates the reducer of the instance `id` of `A`.
    pub fn new(id: Id<A>) -> Self {
        let nil = uuid::Uuid::nil();
        let metadata = Metadata {
            correlation_id: CorrelationId(nil),
            causation_id: nil,
            user: None,
            user_from: None,
            traceparent: None,
            return_addresses: Vec::new(),
            reply: None,
            follower: None,
        };
        let incoming = Incoming { message_id: MessageId(nil), metadata, now: Timestamp::EPOCH };
        Self { id, incoming }
    }

    /// Sets the id, metadata and time with which every command is decided.
    #[must_use]
    pub fn incoming(mut self, incoming: Incoming) -> Self {
        self.incoming = incoming;
        self
    }
}

impl<A: Aggregate> Reducer for AggregateReducer<A> {
    type State = A;
    type Action = A::Command;
    type Environment = A::Environment;

    fn reduce(
        &self,
        state: &mut A,
        command: A::Command,
        env: &A::Environment,
    ) -> Effects<A::Command> {
        let log = uuid::Uuid::nil();
        let ctx = Context::new(log, &self.id, Version::ZERO, &self.incoming, env);
        let outcome = match state.decide(command, &ctx) {
            Ok(outcome) => outcome,
            Err(rejection) => {
                return std::iter::once(Effect::Reject(AnyMessage::new(rejection))).collect();
            }
        };
        let mut effects = Effects::none();
        if !outcome.repeated {
            for event in outcome.events {
                effects.push(Effect::Record(AnyMessage::new(event.clone())));
                state.apply(event.clone());
                for reaction in state.react(&event, &ctx) {
                    effects.push(reaction.into());
                }
            }
        }
        for reaction in outcome.effects {
            effects.push(reaction.into());
        }
        effects
    }
}
