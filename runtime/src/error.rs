//! What can go wrong with a handle.

use std::sync::Arc;

use composable_rust_core::{DecodeError, Message, Position, StoreError, StreamId, Version};

/// Why an instance's state cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The store cannot be reached. Try again.
    #[error("the state of {stream:?} cannot be loaded")]
    Unavailable {
        /// The stream.
        stream: StreamId,
        /// What the store says.
        source: StoreError,
    },
    /// The log cannot be read. Try again.
    #[error("the log cannot be read")]
    Log {
        /// What the store says.
        source: StoreError,
    },
    /// An event was written by newer code. Let a process of that version handle the instance.
    #[error(
        "event {version} of {stream:?} (at {position}) was written by newer code, which must handle the instance"
    )]
    NewerSchema {
        /// The stream.
        stream: StreamId,
        /// The event.
        version: Version,
        /// The event.
        position: Position,
        /// What is not known.
        source: Arc<DecodeError>,
    },
    /// An event cannot be decoded. Add an upcaster, or override the event.
    #[error(
        "event {version} of {stream:?} (at {position}) cannot be decoded: add an upcaster, or override the event"
    )]
    Undecodable {
        /// The stream.
        stream: StreamId,
        /// The event.
        version: Version,
        /// The event.
        position: Position,
        /// Why.
        source: Arc<DecodeError>,
    },
    /// An event is missing: the stream goes on after it. It was deleted by hand, or the server is not
    /// the primary. Restore it.
    #[error("event {version} of {stream:?} is missing from the log: restore it")]
    Missing {
        /// The stream.
        stream: StreamId,
        /// The event.
        version: Version,
    },
    /// `apply` panicked on an event that is in the log. Mend `apply`, or override the event.
    #[error("event {version} of {stream:?} cannot be applied: {panic}")]
    Unapplicable {
        /// The stream.
        stream: StreamId,
        /// The event.
        version: Version,
        /// What the panic said.
        panic: String,
    },
}

impl LoadError {
    /// Whether trying again, without doing anything else, can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { source, .. } | Self::Log { source } => source.is_transient(),
            _ => false,
        }
    }
}

/// Why a command was not accepted. `R` is the aggregate's rejection.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SendError<R: Message> {
    /// The aggregate refuses. Nothing was recorded.
    #[error("refused: {}", .0.kind().name)]
    Rejected(R),
    /// The stream is not at the version that `expecting` named. Nothing was recorded; look at the
    /// state and decide whether to send again.
    #[error("the stream is at version {actual}, not at {expected}")]
    UnexpectedVersion {
        /// What the sender expected.
        expected: Version,
        /// Where the stream stands.
        actual: Version,
    },
    /// The key was used for another command on this instance. Use a key of its own for each. If it was
    /// the same command, see [`Send::key`](crate::SendCommand::key) on hash maps.
    #[error("the idempotency key was used for another command")]
    KeyReused,
    /// No outcome in time. The command may have been recorded, or may yet be: send it again with
    /// the same key to learn its outcome.
    #[error("no outcome within the deadline; send again with the same key to learn it")]
    DeadlinePassed,
    /// The store's writer ended while it held the command. It may have been recorded: send it again
    /// with the same key to learn its outcome.
    #[error("the outcome is unknown; send again with the same key to learn it")]
    OutcomeUnknown,
    /// The command was handled before, and its outcome was erased with the stream.
    #[error("the outcome was erased")]
    Erased,
    /// The command was handled before, and this code cannot read how: newer code decided it, or the
    /// rejection was renamed or changed without an upcaster. It is not decided again. Ask newer code,
    /// or look at the state.
    #[error("the command was handled before; its outcome cannot be read")]
    UnreadableOutcome {
        /// `true` if newer code can read it.
        newer: bool,
        /// What cannot be read.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The instance's stream is closed. Nothing will ever be recorded in it again.
    #[error("the stream is closed")]
    Closed,
    /// The command is one that only the runtime may deliver (a reply or a timeout).
    #[error("`{0}` is internal: only the runtime delivers it")]
    Internal(&'static str),
    /// `decide`, `apply` or `react` panicked. Nothing was recorded; the instance lives on.
    #[error("the aggregate panicked: {0}")]
    Panicked(String),
    /// What the aggregate decided cannot be stored: it does not survive encoding, in the store or on a
    /// topic that it is published to, is too large, or holds what a store refuses. Nothing was recorded; the aggregate or the command is at fault.
    #[error("the decision cannot be stored: {0}")]
    Unstorable(String),
    /// The instance's state cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The timer whose message it is was cancelled or replaced. Only the runtime sees this: nothing
    /// was recorded, and nothing needs to be done.
    #[error("the timer was cancelled or replaced")]
    Void,
    /// The app is shutting down. Nothing was recorded; send to another process.
    #[error("the app is shutting down")]
    ShuttingDown,
}

impl<R: Message> SendError<R> {
    /// A stable name for callers in other languages: the rejection's stored name, or that of the
    /// variant in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.kind().name,
            Self::UnexpectedVersion { .. } => "unexpected_version",
            Self::KeyReused => "key_reused",
            Self::DeadlinePassed => "deadline_passed",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Erased => "erased",
            Self::UnreadableOutcome { .. } => "unreadable_outcome",
            Self::Closed => "closed",
            Self::Internal(_) => "internal",
            Self::Panicked(_) => "panicked",
            Self::Unstorable(_) => "unstorable",
            Self::Load(_) => "unavailable",
            Self::Void => "void",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// The aggregate's rejection, if that is what it is.
    pub fn rejection(&self) -> Option<&R> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }
}

pub(crate) use crate::panic::message as panic_text;

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
