//! Errors of a store.

use std::sync::Arc;

use composable_rust_core::Message;
use composable_rust_core::bus::PublishError;
use composable_rust_core::message::AnyMessage;

/// The error of sending an action.
///
/// After any error but [`Rejected`](ActionError::Rejected), the state is unchanged and no effect
/// was started.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// The reducer rejected the action. Its other changes and effects remain: an aggregate changes
    /// nothing when it rejects a command, but a reducer combined with it may.
    #[error(transparent)]
    Rejected(SendRejected),
    /// The reducer panicked; the state is restored. The same action most likely panics again: fix
    /// the reducer.
    #[error("the reducer panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The reducer returned an effect that this store cannot execute. Fix the composition.
    #[error("the effects of the action cannot be executed")]
    Unsupported(#[from] UnsupportedEffect),
    /// The store is shutting down or shut down. Send no more actions.
    #[error("the store is shut down")]
    Closed,
    /// A reducer panicked earlier, and the store keeps no copy of the state
    /// ([`StoreBuilder::poison_on_panic`](super::StoreBuilder::poison_on_panic)). Build another
    /// store.
    #[error("the store's state was lost in a panic of its reducer")]
    Poisoned,
}

impl ActionError {
    /// Returns the rejection, if the reducer rejected the action with an `M`.
    pub fn rejection<M: Message>(&self) -> Option<&M> {
        match self {
            Self::Rejected(rejected) => rejected.downcast_ref(),
            _ => None,
        }
    }
}

/// The rejection of an aggregate, with its type erased.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rejected: {}", .0.kind().name)]
pub struct SendRejected(AnyMessage);

impl SendRejected {
    pub(super) fn new(rejection: AnyMessage) -> Self {
        Self(rejection)
    }

    /// Returns the stable name of the rejection, such as `order.not_allowed`.
    pub fn code(&self) -> &'static str {
        self.0.kind().name
    }

    /// Returns the rejection, if it is an `M`.
    pub fn downcast_ref<M: Message>(&self) -> Option<&M> {
        self.0.downcast_ref()
    }

    /// Returns the rejection as an `M`.
    ///
    /// # Errors
    ///
    /// The rejection is not an `M`. The error is the rejection itself, to try another type.
    pub fn downcast<M: Message>(self) -> Result<M, Self> {
        match self.0.downcast_ref::<M>() {
            Some(rejection) => Ok(rejection.clone()),
            None => Err(self),
        }
    }

    /// Returns the rejection with its type erased.
    pub fn into_message(self) -> AnyMessage {
        self.0
    }
}

/// An effect that a store cannot execute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsupportedEffect {
    /// A command for another instance must survive a crash, which an in-memory store cannot
    /// guarantee.
    #[error(
        "dispatching to `{target}` is durable and a `Store` is not: run the aggregate with a \
         `Handle` of an `App`"
    )]
    Dispatch {
        /// The target's name.
        target: &'static str,
    },
    /// A call must survive a crash, which an in-memory store cannot guarantee.
    #[error(
        "calling `{gateway}` is durable and a `Store` is not: run the aggregate with a `Handle` of \
         an `App`, or return a future"
    )]
    Call {
        /// The gateway's name.
        gateway: &'static str,
    },
    /// The store has no event store.
    #[error("a database effect needs an event store: give one to `StoreBuilder::event_store`")]
    Database,
    /// The store has no bus.
    #[error("publishing to `{topic}` needs a bus: give one to `StoreBuilder::event_bus`")]
    Publish {
        /// The message's topic.
        topic: String,
    },
    /// An effect that this version does not know.
    #[error("this version of `Store` does not know the effect")]
    Unknown,
}

/// The failure of an effect.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EffectError {
    /// An effect panicked. Fix it.
    #[error("an effect panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// A `publish` effect failed. The message may have been published or not.
    #[error("failed to publish a message to `{topic}`")]
    Publish {
        /// The message's topic.
        topic: String,
        /// The bus's error.
        source: Arc<PublishError>,
    },
    /// Reducing an action that an effect brought back failed; never with
    /// [`Rejected`](ActionError::Rejected), which is a regular outcome.
    #[error("failed to reduce an action that an effect brought back")]
    Action(#[from] ActionError),
    /// The shutdown of the store cancelled the effect.
    #[error("an effect was cancelled: the store was shut down")]
    ShutDown,
}

/// The store was shut down before its state satisfied the condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is shut down")]
pub struct StoreClosed;
