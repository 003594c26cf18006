//! Effects as values, which the runtime executes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::effect_list::{EffectList, IntoEffect};
use super::reaction::{CallGateway, Delay, DispatchCommand, EffectId, SendReply};
use crate::bus::BusMessage;
use crate::event::StoredEvent;
use crate::message::AnyMessage;
use crate::store::{Append, AppendOutcome, Fingerprint, Snapshot, StoreError};
use crate::{EventId, StreamId, Version};

/// The effects that a reducer returns: `effects![…]`, or [`Effects::none`](EffectList::none).
pub type Effects<A> = EffectList<Effect<A>>;

/// An effect as a value, which the runtime executes. `A` is the action that the effect sends back
/// to the reducer.
///
/// Effects are equal if their contents are. Futures are never equal, and database effects are
/// compared by their operations, not their functions.
#[non_exhaustive]
pub enum Effect<A> {
    /// Puts a message on the bus.
    PublishEvent(Box<BusMessage>),
    /// Sends a command to an aggregate's instance. Durable; a plain `Store` refuses it.
    DispatchCommand(Box<DispatchCommand>),
    /// Sends a request to a gateway. Durable; a plain `Store` refuses it.
    CallGateway(Box<CallGateway>),
    /// Replies to a caller whose return address was kept.
    Reply(Box<SendReply>),
    /// Sends an action back to the reducer later.
    Delay(Box<Delay<A>>),
    /// Cancels the effect that runs under an id.
    Cancel(EffectId),
    /// Runs an effect that can be cancelled by its id.
    Cancellable(EffectId, Box<Effect<A>>),
    /// An operation on the event store.
    Database(Box<DatabaseEffect<A>>),
    /// Runs all effects concurrently.
    Parallel(Vec<Effect<A>>),
    /// Runs the effects in order. Each starts once the work of its predecessor is done and the
    /// action that the predecessor sent back is reduced, but does not wait for the effects of that
    /// action.
    Sequential(Vec<Effect<A>>),
    /// Runs any future, which may return an action.
    Future(Pin<Box<dyn Future<Output = Option<A>> + Send>>),
    /// The event that the aggregate of an
    /// [`AggregateReducer`](crate::composition::AggregateReducer) recorded.
    Record(AnyMessage),
    /// The rejection with which the aggregate of an
    /// [`AggregateReducer`](crate::composition::AggregateReducer) refused a command.
    Reject(AnyMessage),
}

/// Runs `work` and sends the action that it returns, if any, to the reducer.
pub fn future<A>(work: impl Future<Output = Option<A>> + Send + 'static) -> Effect<A> {
    Effect::Future(Box::pin(work))
}

/// Puts `message` on the bus.
pub fn publish<A>(message: BusMessage) -> Effect<A> {
    Effect::PublishEvent(Box::new(message))
}

/// Runs all of `effects` concurrently.
pub fn parallel<A>(effects: Effects<A>) -> Effect<A> {
    Effect::Parallel(effects.into_iter().collect())
}

/// Runs `effects` in order, each after its predecessor has completed.
pub fn sequential<A>(effects: Effects<A>) -> Effect<A> {
    Effect::Sequential(effects.into_iter().collect())
}

/// Executes `operation` and sends the action that `then` makes of its result to the reducer.
pub fn database<A>(
    operation: DbOperation,
    then: impl Fn(Result<DbOutcome, StoreError>) -> A + Send + Sync + 'static,
) -> Effect<A> {
    Effect::Database(Box::new(DatabaseEffect { operation, then: Arc::new(then) }))
}

/// An operation on the event store, for reducers that manage streams themselves. An aggregate
/// does not need them.
#[derive(Debug, Clone, PartialEq)]
pub enum DbOperation {
    /// Appends to a stream. Outcome: [`DbOutcome::Appended`].
    AppendEvents(Box<Append>),
    /// Loads the events after a version. Outcome: [`DbOutcome::Events`].
    LoadEvents {
        /// The stream.
        stream: StreamId,
        /// `Version::ZERO` for all events.
        after: Version,
    },
    /// Saves a snapshot. Outcome: [`DbOutcome::Saved`].
    SaveSnapshot {
        /// The stream.
        stream: StreamId,
        /// The state.
        snapshot: Snapshot,
        /// The event at the snapshot's version.
        last: EventId,
    },
    /// Loads the latest snapshot. Outcome: [`DbOutcome::Snapshot`].
    LoadSnapshot {
        /// The stream.
        stream: StreamId,
        /// The fingerprint of the snapshot.
        fingerprint: Fingerprint,
    },
}

/// The outcome of a [`DbOperation`].
#[derive(Debug, Clone, PartialEq)]
pub enum DbOutcome {
    /// The outcome of the append.
    Appended(AppendOutcome),
    /// The events, in order.
    Events(Vec<StoredEvent>),
    /// The snapshot is saved, or the store ignored it.
    Saved,
    /// The snapshot; `None` if there is none.
    Snapshot(Option<Snapshot>),
}

/// A [`DbOperation`] and the action that its result becomes.
pub struct DatabaseEffect<A> {
    /// The operation.
    pub operation: DbOperation,
    /// The function that makes an action of the result.
    pub then: Arc<dyn Fn(Result<DbOutcome, StoreError>) -> A + Send + Sync>,
}

impl<A: 'static> Effect<A> {
    /// Converts with `f` each action that the effect sends back.
    #[must_use]
    pub fn map<B: 'static>(self, f: impl Fn(A) -> B + Clone + Send + Sync + 'static) -> Effect<B> {
        match self {
            Self::PublishEvent(message) => Effect::PublishEvent(message),
            Self::DispatchCommand(dispatch) => Effect::DispatchCommand(dispatch),
            Self::CallGateway(call) => Effect::CallGateway(call),
            Self::Reply(answer) => Effect::Reply(answer),
            Self::Delay(delay) => {
                let Delay { id, due, action, detached } = *delay;
                Effect::Delay(Box::new(Delay { id, due, action: f(action), detached }))
            }
            Self::Cancel(id) => Effect::Cancel(id),
            Self::Cancellable(id, effect) => Effect::Cancellable(id, Box::new(effect.map(f))),
            Self::Database(database) => {
                let DatabaseEffect { operation, then } = *database;
                let then = Arc::new(move |result| f(then(result)));
                Effect::Database(Box::new(DatabaseEffect { operation, then }))
            }
            Self::Parallel(effects) => {
                Effect::Parallel(effects.into_iter().map(|effect| effect.map(f.clone())).collect())
            }
            Self::Sequential(effects) => Effect::Sequential(
                effects.into_iter().map(|effect| effect.map(f.clone())).collect(),
            ),
            Self::Future(work) => Effect::Future(Box::pin(async move { work.await.map(f) })),
            Self::Record(event) => Effect::Record(event),
            Self::Reject(rejection) => Effect::Reject(rejection),
        }
    }

    /// Sets the id by which [`cancel`](crate::cancel) cancels the effect. The effect replaces any
    /// effect that runs under the id. A delay carries the id itself.
    #[must_use]
    pub fn with_id(self, id: impl Into<EffectId>) -> Self {
        match self {
            Self::Delay(mut delay) => {
                delay.id = Some(id.into());
                Self::Delay(delay)
            }
            effect => Self::Cancellable(id.into(), Box::new(effect)),
        }
    }

    /// Puts every id of the effect into the child `scope`, so that keyed children never cancel each
    /// other's effects.
    pub(crate) fn scoped(self, scope: &str) -> Self {
        match self {
            Self::Delay(mut delay) => {
                delay.id = delay.id.map(|id| id.scoped(scope));
                Self::Delay(delay)
            }
            Self::Cancel(id) => Self::Cancel(id.scoped(scope)),
            Self::Cancellable(id, effect) => {
                Self::Cancellable(id.scoped(scope), Box::new(effect.scoped(scope)))
            }
            Self::Parallel(effects) => {
                Self::Parallel(effects.into_iter().map(|effect| effect.scoped(scope)).collect())
            }
            Self::Sequential(effects) => {
                Self::Sequential(effects.into_iter().map(|effect| effect.scoped(scope)).collect())
            }
            effect => effect,
        }
    }
}

impl<A: 'static> Effects<A> {
    /// Converts with `f` each action that the effects send back.
    pub fn map<B: 'static>(self, f: impl Fn(A) -> B + Clone + Send + Sync + 'static) -> Effects<B> {
        self.into_iter().map(|effect| effect.map(f.clone())).collect()
    }

    /// Runs all of these effects concurrently, then all of `next`.
    pub fn then(self, next: Self) -> Self {
        [parallel(self), parallel(next)].into_iter().collect::<Self>().in_sequence()
    }

    /// Runs all of these effects concurrently under `id`, which cancels them together.
    pub fn cancellable(self, id: impl Into<EffectId>) -> Self {
        std::iter::once(Effect::Cancellable(id.into(), Box::new(parallel(self)))).collect()
    }

    /// Puts the effects of a child into `scope` and converts their actions with `embed`.
    pub(crate) fn within<B: 'static>(
        self,
        scope: &str,
        embed: &(impl Fn(A) -> B + Clone + Send + Sync + 'static),
    ) -> Effects<B> {
        self.into_iter().map(|effect| effect.scoped(scope).map(embed.clone())).collect()
    }

    fn in_sequence(self) -> Self {
        std::iter::once(sequential(self)).collect()
    }
}

impl<A> IntoEffect<Self> for Effect<A> {
    fn into_effect(self) -> Self {
        self
    }
}

impl<A: PartialEq> PartialEq for Effect<A> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::PublishEvent(a), Self::PublishEvent(b)) => a == b,
            (Self::DispatchCommand(a), Self::DispatchCommand(b)) => a == b,
            (Self::CallGateway(a), Self::CallGateway(b)) => a == b,
            (Self::Reply(a), Self::Reply(b)) => a == b,
            (Self::Delay(a), Self::Delay(b)) => a == b,
            (Self::Cancel(a), Self::Cancel(b)) => a == b,
            (Self::Cancellable(a, x), Self::Cancellable(b, y)) => a == b && x == y,
            (Self::Database(a), Self::Database(b)) => a.operation == b.operation,
            (Self::Parallel(a), Self::Parallel(b)) | (Self::Sequential(a), Self::Sequential(b)) => {
                a == b
            }
            (Self::Record(a), Self::Record(b)) | (Self::Reject(a), Self::Reject(b)) => a == b,
            _ => false,
        }
    }
}

impl<A: fmt::Debug> fmt::Debug for Effect<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PublishEvent(message) => message.fmt(f),
            Self::DispatchCommand(dispatch) => dispatch.fmt(f),
            Self::CallGateway(call) => call.fmt(f),
            Self::Reply(answer) => answer.fmt(f),
            Self::Delay(delay) => delay.fmt(f),
            Self::Cancel(id) => f.debug_tuple("Cancel").field(id).finish(),
            Self::Cancellable(id, effect) => {
                f.debug_tuple("Cancellable").field(id).field(effect).finish()
            }
            Self::Database(database) => {
                f.debug_tuple("Database").field(&database.operation).finish()
            }
            Self::Parallel(effects) => f.debug_tuple("Parallel").field(effects).finish(),
            Self::Sequential(effects) => f.debug_tuple("Sequential").field(effects).finish(),
            Self::Future(_) => f.write_str("Future"),
            Self::Record(event) => f.debug_tuple("Record").field(event).finish(),
            Self::Reject(rejection) => f.debug_tuple("Reject").field(rejection).finish(),
        }
    }
}

impl<A> fmt::Debug for DatabaseEffect<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseEffect").field("operation", &self.operation).finish_non_exhaustive()
    }
}
