//! Effects as values: what should happen, for the runtime to make it happen.

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

/// What a reducer returns: `effects![…]`, [`Effects::none`](EffectList::none) if nothing follows.
pub type Effects<A> = EffectList<Effect<A>>;

/// What should happen, as a value. `A` is the action that comes back.
///
/// Effects are equal when they say the same; futures never are, and of a database effect the
/// operation is compared, the function is not.
#[non_exhaustive]
pub enum Effect<A> {
    /// Puts a message on the bus.
    PublishEvent(Box<BusMessage>),
    /// Sends a command to an aggregate's instance. Durable; a plain store refuses it.
    DispatchCommand(Box<DispatchCommand>),
    /// Asks a gateway. Durable; a plain store refuses it.
    CallGateway(Box<CallGateway>),
    /// Answers a caller whose address was kept.
    Reply(Box<SendReply>),
    /// Brings an action back later.
    Delay(Box<Delay<A>>),
    /// Cancels what runs under an id.
    Cancel(EffectId),
    /// Can be cancelled by its id.
    Cancellable(EffectId, Box<Effect<A>>),
    /// An operation on the event store.
    Database(Box<DatabaseEffect<A>>),
    /// All at once.
    Parallel(Vec<Effect<A>>),
    /// One after the other; each waits for all that the one before set in motion itself.
    Sequential(Vec<Effect<A>>),
    /// Anything else: runs, and may bring an action back.
    Future(Pin<Box<dyn Future<Output = Option<A>> + Send>>),
    /// An [`AggregateReducer`](crate::composition::AggregateReducer) aggregate recorded this event.
    Record(AnyMessage),
    /// An [`AggregateReducer`](crate::composition::AggregateReducer) aggregate refused with this.
    Reject(AnyMessage),
}

/// Runs `work` and brings its action back, if any.
pub fn future<A>(work: impl Future<Output = Option<A>> + Send + 'static) -> Effect<A> {
    Effect::Future(Box::pin(work))
}

/// Puts `message` on the bus.
pub fn publish<A>(message: BusMessage) -> Effect<A> {
    Effect::PublishEvent(Box::new(message))
}

/// Runs all of `effects` at once.
pub fn parallel<A>(effects: Effects<A>) -> Effect<A> {
    Effect::Parallel(effects.into_iter().collect())
}

/// Runs `effects` one after the other.
pub fn sequential<A>(effects: Effects<A>) -> Effect<A> {
    Effect::Sequential(effects.into_iter().collect())
}

/// Does `operation` and brings back the action that `then` makes of its result.
pub fn database<A>(
    operation: DbOperation,
    then: impl Fn(Result<DbOutcome, StoreError>) -> A + Send + Sync + 'static,
) -> Effect<A> {
    Effect::Database(Box::new(DatabaseEffect { operation, then: Arc::new(then) }))
}

/// An operation on the event store, for reducers that manage streams themselves. An aggregate
/// needs none of them.
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
        /// What wrote it.
        fingerprint: Fingerprint,
    },
}

/// What a [`DbOperation`] led to.
#[derive(Debug, Clone, PartialEq)]
pub enum DbOutcome {
    /// What became of the append.
    Appended(AppendOutcome),
    /// The events, in order.
    Events(Vec<StoredEvent>),
    /// The snapshot is saved, or a newer one is there.
    Saved,
    /// The snapshot, if there is one.
    Snapshot(Option<Snapshot>),
}

/// A [`DbOperation`] and the action that its result becomes.
pub struct DatabaseEffect<A> {
    /// What to do.
    pub operation: DbOperation,
    /// The action of the result.
    pub then: Arc<dyn Fn(Result<DbOutcome, StoreError>) -> A + Send + Sync>,
}

impl<A: 'static> Effect<A> {
    /// The same effect, with each action that comes back turned into a `B`.
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

    /// The same effect, cancelled by [`cancel`](crate::cancel) of this id; one that runs under it
    /// is replaced. A delay carries the id itself.
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

    /// The same effect with every id inside the child `scope`, so that keyed children never cancel
    /// each other's effects.
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
    /// The same effects, with each action that comes back turned into a `B`.
    pub fn map<B: 'static>(self, f: impl Fn(A) -> B + Clone + Send + Sync + 'static) -> Effects<B> {
        self.into_iter().map(|effect| effect.map(f.clone())).collect()
    }

    /// First all of these, then `next`.
    pub fn then(self, next: Self) -> Self {
        [parallel(self), parallel(next)].into_iter().collect::<Self>().in_sequence()
    }

    /// All of these, cancelled together by this id.
    pub fn cancellable(self, id: impl Into<EffectId>) -> Self {
        std::iter::once(Effect::Cancellable(id.into(), Box::new(parallel(self)))).collect()
    }

    /// The effects of a child: its ids inside `scope`, its actions through `embed`.
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
