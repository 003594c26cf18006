//! The error of an operation.

use composable_rust_core::store::StoreError;
use composable_rust_core::{StreamId, Version};
use composable_rust_runtime::operations::{
    ConsumerError, DeadLetterError, RepublishError, ResetPolicyError,
};
use composable_rust_runtime::{BuildError, LoadError, RegistryError};

/// The error of an operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The store cannot be read or written, or rejects the request. Retry if it is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The app's registry cannot decode a message or load a state.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A stream cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The app over the store cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A topic cannot be published again.
    #[error(transparent)]
    Republish(#[from] RepublishError),
    /// A policy cannot be reset.
    #[error(transparent)]
    ResetPolicy(#[from] ResetPolicyError),
    /// A consumer cannot be looked at or moved.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// Nothing with this name exists.
    #[error("there is no {what} `{name}`{hint}")]
    NotFound {
        /// The kind of thing, such as `stream` or `dead letter`.
        what: &'static str,
        /// The requested name.
        name: String,
        /// The things to ask for instead, after a semicolon; empty if nothing is known.
        hint: String,
    },
    /// The dead letter waits behind another one: decide about that one first.
    #[error("the dead letter waits behind another one of the same pair: decide about that first")]
    NotAtHead,
    /// A decision about many dead letters ended early. Repeat it: those that were decided about are
    /// not decided about again.
    #[error(
        "at least {decided} dead letters were decided about: repeat the command for the others"
    )]
    PartlyDecided {
        /// The number of dead letters that were decided about. The answer about the last one may
        /// have been lost.
        decided: u64,
        /// The reason.
        source: Box<AdminError>,
    },
    /// The operation needs an app that registers the stream's type. Run it in a program that does.
    #[error(
        "`{category}` is not registered here: run `{operation}` in a program that registers it"
    )]
    NotRegistered {
        /// The category of the stream.
        category: String,
        /// The operation.
        operation: &'static str,
    },
    /// The stream is one of the operators': it is the trail of what they did, which no operation
    /// changes.
    #[error("{0} is the trail of the operators, which no operation changes")]
    OperatorsStream(StreamId),
    /// There is no outcome of a command, which may have been handled. Send it again with the same
    /// key to learn the outcome.
    #[error("the command may have been handled: send it again with the key `{key}`")]
    OutcomeUnknown {
        /// The key with which the command was sent.
        key: String,
        /// The reason.
        source: RegistryError,
    },
    /// The content of the event was erased, and cannot be replaced.
    #[error("the content of event {version} of {stream} was erased")]
    Erased {
        /// The stream.
        stream: StreamId,
        /// The version of the event.
        version: Version,
    },
    /// The timer was fired, cancelled or armed again since it was seen.
    #[error("the timer `{id}` of {stream} was fired, cancelled or armed again meanwhile")]
    TimerGone {
        /// The stream of the timer.
        stream: StreamId,
        /// The id of the timer.
        id: String,
    },
}

impl AdminError {
    pub(crate) fn not_found(what: &'static str, name: impl Into<String>) -> Self {
        Self::NotFound { what, name: name.into(), hint: String::new() }
    }

    /// Returns `true` if a retry can succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Store(error)
            | Self::Republish(RepublishError::Store(error))
            | Self::ResetPolicy(ResetPolicyError::Store(error)) => error.is_transient(),
            Self::Registry(error) => error.is_transient(),
            Self::Load(error) => error.is_transient(),
            Self::PartlyDecided { source, .. } => source.is_transient(),
            Self::OutcomeUnknown { .. } => true,
            _ => false,
        }
    }
}

impl From<DeadLetterError> for AdminError {
    fn from(error: DeadLetterError) -> Self {
        match error {
            DeadLetterError::Store(error) => Self::Store(error),
            _ => Self::NotAtHead,
        }
    }
}
