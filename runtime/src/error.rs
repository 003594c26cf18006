//! Errors of handles: loading an instance, sending it a command.

use std::sync::Arc;

use composable_rust_core::codec::DecodeError;
use composable_rust_core::store::StoreError;
use composable_rust_core::{Message, Position, StreamId, Version};

/// The error of loading an instance or reading the log.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The store is unavailable. Retry.
    #[error("failed to load the state of {stream:?}")]
    Unavailable {
        /// The instance's stream.
        stream: StreamId,
        /// The store's error.
        source: StoreError,
    },
    /// The store is unavailable while the log is read. Retry.
    #[error("failed to read the log")]
    Log {
        /// The store's error.
        source: StoreError,
    },
    /// An event was written by newer code. Let a process of that version handle the instance.
    #[error(
        "event {version} of {stream:?} (at {position}) was written by newer code, which must handle the instance"
    )]
    NewerSchema {
        /// The instance's stream.
        stream: StreamId,
        /// The event's version in the stream.
        version: Version,
        /// The event's position in the log.
        position: Position,
        /// The decoding error, which names what this code does not know.
        source: Arc<DecodeError>,
    },
    /// An event cannot be decoded. Add an upcaster, or override the event.
    #[error(
        "event {version} of {stream:?} (at {position}) cannot be decoded: add an upcaster, or override the event"
    )]
    Undecodable {
        /// The instance's stream.
        stream: StreamId,
        /// The event's version in the stream.
        version: Version,
        /// The event's position in the log.
        position: Position,
        /// The decoding error.
        source: Arc<DecodeError>,
    },
    /// An event is missing from the middle of the stream: it was deleted by hand, or the server is
    /// not the primary. Restore the event.
    #[error("event {version} of {stream:?} is missing from the log: restore it")]
    Missing {
        /// The instance's stream.
        stream: StreamId,
        /// The event's version in the stream.
        version: Version,
    },
    /// `apply` panicked on an event that is in the log. Fix `apply`, or override the event.
    #[error("event {version} of {stream:?} cannot be applied: {panic}")]
    Unapplicable {
        /// The instance's stream.
        stream: StreamId,
        /// The event's version in the stream.
        version: Version,
        /// The panic's message.
        panic: String,
    },
}

impl LoadError {
    /// Returns `true` if a retry can succeed without any other action.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } | Self::Log { source } => source.is_transient(),
            _ => false,
        }
    }
}

/// The error of sending a command. `R` is the aggregate's rejection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<R: Message> {
    /// The aggregate rejected the command. Nothing was recorded.
    #[error("rejected: {}", .0.kind().name)]
    Rejected(R),
    /// The stream is not at the version given to [`expecting`](crate::SendCommand::expecting).
    /// Nothing was recorded. Read the state and decide whether to send the command again.
    #[error("the stream is at version {actual}, not at {expected}")]
    UnexpectedVersion {
        /// The version that the sender expected.
        expected: Version,
        /// The version of the stream.
        actual: Version,
    },
    /// The key was used for a different command on this instance. Use a unique key for each
    /// command. If the command is the same, see [`key`](crate::SendCommand::key) on hash maps.
    #[error("the idempotency key was used for a different command")]
    KeyReused,
    /// A send with the same key is in progress in this process: see
    /// [`unless_in_progress`](crate::SendCommand::unless_in_progress). This send recorded nothing.
    /// Send the command again later to get the outcome of the first.
    #[error("a send with the same idempotency key is in progress")]
    InProgress,
    /// There was no outcome within the deadline. The command may have been recorded, or may still
    /// be: send it again with the same key to learn the outcome.
    #[error("no outcome within the deadline; send again with the same key to learn it")]
    DeadlinePassed,
    /// The partition's writer ended during the append. The command may have been recorded: send it
    /// again with the same key to learn the outcome.
    #[error("the outcome is unknown; send again with the same key to learn it")]
    OutcomeUnknown,
    /// The command was handled earlier, and its outcome was erased with the stream.
    #[error("the outcome was erased")]
    Erased,
    /// The command was handled earlier, and this code cannot decode the outcome: newer code decided
    /// the command, or the rejection was renamed or changed without an upcaster. The command is not
    /// decided again. Send it to a process with newer code, or read the state.
    #[error("the command was handled earlier; its outcome cannot be decoded")]
    UnreadableOutcome {
        /// `true` if newer code can decode the outcome.
        newer: bool,
        /// The decoding error.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The instance's stream is closed: it takes no further events.
    #[error("the stream is closed")]
    Closed,
    /// The command is internal: only the runtime may deliver it, as a reply or a timeout.
    #[error("`{0}` is internal: only the runtime delivers it")]
    Internal(&'static str),
    /// `decide`, `apply` or `react` panicked. Nothing was recorded, and the instance stays usable.
    #[error("the aggregate panicked: {0}")]
    Panicked(String),
    /// The decision cannot be stored: a message does not survive encoding, for the store or for a
    /// topic that it is published to, is too large, or holds something that the store rejects.
    /// Nothing was recorded. Fix the aggregate or the command.
    #[error("the decision cannot be stored: {0}")]
    Unstorable(String),
    /// The instance's state cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The app is shutting down. Nothing was recorded. Send the command to another process.
    #[error("the app is shutting down")]
    ShuttingDown,
}

impl<R: Message> SendError<R> {
    /// Returns a stable name for callers in other languages: the stored name of the rejection, or
    /// the name of the variant in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.kind().name,
            Self::UnexpectedVersion { .. } => "unexpected_version",
            Self::KeyReused => "key_reused",
            Self::InProgress => "in_progress",
            Self::DeadlinePassed => "deadline_passed",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Erased => "erased",
            Self::UnreadableOutcome { .. } => "unreadable_outcome",
            Self::Closed => "closed",
            Self::Internal(_) => "internal",
            Self::Panicked(_) => "panicked",
            Self::Unstorable(_) => "unstorable",
            Self::Load(_) => "unavailable",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// Returns the aggregate's rejection, if the error is one.
    pub fn rejection(&self) -> Option<&R> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

/// Returns the messages of an error and its causes in one line, separated by colons.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
