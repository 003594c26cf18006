//! What can go wrong in a store.

use std::sync::Arc;

use composable_rust_core::{AnyMessage, Message, PublishError};

/// Why an action that was sent did not take effect.
///
/// After any of these but [`Rejected`](ActionError::Rejected) the state is as it was and nothing
/// follows.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ActionError {
    /// The reducer refuses. What it changed and returned besides stands: an aggregate changes
    /// nothing then, but a reducer combined with it may.
    #[error(transparent)]
    Rejected(SendRejected),
    /// The reducer panicked; the state is restored. Sending the same action again most likely
    /// panics again: mend the reducer.
    #[error("the reducer panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The reducer returned an effect that this store cannot execute. Mend the composition.
    #[error("the effects of the action cannot be executed")]
    Unsupported(#[from] UnsupportedEffect),
    /// The store is shutting down or shut down. Send nothing more.
    #[error("the store is shut down")]
    Closed,
    /// A reducer panicked before and the store keeps no copy to restore
    /// ([`StoreBuilder::poison_on_panic`](super::StoreBuilder::poison_on_panic)). Build another.
    #[error("the store's state was lost in a panic of its reducer")]
    Poisoned,
}

impl ActionError {
    /// The rejection, if the reducer refused with an `M`.
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

    /// The stable name of the rejection, such as `order.not_allowed`.
    pub fn code(&self) -> &'static str {
        self.0.kind().name
    }

    /// The rejection, if it is an `M`.
    pub fn downcast_ref<M: Message>(&self) -> Option<&M> {
        self.0.downcast_ref()
    }

    /// The rejection.
    ///
    /// # Errors
    ///
    /// When it is not an `M`: this again, to try another type.
    pub fn downcast<M: Message>(self) -> Result<M, Self> {
        match self.0.downcast_ref::<M>() {
            Some(rejection) => Ok(rejection.clone()),
            None => Err(self),
        }
    }

    /// The rejection as it is.
    pub fn into_message(self) -> AnyMessage {
        self.0
    }
}

/// An effect that a store cannot execute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnsupportedEffect {
    /// A command for another instance must survive a crash, which a store in memory cannot
    /// promise.
    #[error(
        "dispatching to `{target}` is durable and a `Store` is not: run the aggregate by a \
         `Handle` of an `App`"
    )]
    Dispatch {
        /// The target's name.
        target: &'static str,
    },
    /// A call must survive a crash, which a store in memory cannot promise.
    #[error(
        "calling `{gateway}` is durable and a `Store` is not: run the aggregate by a `Handle` of \
         an `App`, or return a future"
    )]
    Call {
        /// The gateway's name.
        gateway: &'static str,
    },
    /// There is no event store.
    #[error("a database effect needs an event store: give one to `StoreBuilder::event_store`")]
    Database,
    /// There is no bus.
    #[error("publishing to `{topic}` needs a bus: give one to `StoreBuilder::event_bus`")]
    Publish {
        /// Where the message was to go.
        topic: String,
    },
    /// An effect that this version does not know.
    #[error("this version of `Store` does not know the effect")]
    Unknown,
}

/// Why something that an action set in motion was not done.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EffectError {
    /// An effect panicked. Mend it.
    #[error("an effect panicked: {message}")]
    Panicked {
        /// What the panic said.
        message: String,
    },
    /// The message may have been published or not.
    #[error("a message could not be published to `{topic}`")]
    Publish {
        /// Where it was to go.
        topic: String,
        /// What the bus says.
        source: Arc<PublishError>,
    },
    /// An action that an effect brought back was not reduced; never
    /// [`Rejected`](ActionError::Rejected), which is a regular outcome.
    #[error("an action that an effect brought back did not take effect")]
    Action(#[from] ActionError),
    /// It was not finished when the store was shut down.
    #[error("an effect was cancelled: the store was shut down")]
    ShutDown,
}

/// The store was shut down before what was waited for came true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is shut down")]
pub struct StoreClosed;
