//! A command on its way through an instance: pending, in the mailbox, decided.

use composable_rust_core::message::Incoming;
use composable_rust_core::queue::ArmedTimer;
use composable_rust_core::{Aggregate, Message, MessageId, Receipt, Version};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::Span;

use crate::error::SendError;
use crate::instance::in_progress::InProgress;

/// A command that waits to be decided.
#[derive(Debug, Clone)]
pub(crate) struct PendingCommand<C> {
    pub(crate) command: C,
    pub(crate) incoming: Incoming,
    /// The command's digest; `None` if the message cannot be redelivered, so that its outcome need
    /// not be stored in the inbox.
    pub(crate) digest: Option<u128>,
    /// The version that the sender expects the stream to have.
    pub(crate) expected: Option<Version>,
    /// The timer that delivers the command.
    pub(crate) fired_timer: Option<ArmedTimer>,
}

impl<C> PendingCommand<C> {
    pub(crate) fn message_id(&self) -> MessageId {
        self.incoming.message_id
    }

    /// `true` if the command is neither a reply nor a timer's, so that its sender may wait for a
    /// reply.
    pub(crate) fn is_request(&self) -> bool {
        self.fired_timer.is_none() && self.incoming.metadata.reply.is_none()
    }
}

/// A pending command in a mailbox.
pub(crate) struct MailboxEntry<A: Aggregate> {
    pub(crate) pending: PendingCommand<A::Command>,
    pub(crate) result: oneshot::Sender<Completion<A>>,
    /// The arrival number, see [`Mailbox::next_arrival`](crate::instance::mailbox::Mailbox).
    pub(crate) arrival: u64,
    /// The registration of the send, if a second one with its key must not wait for it.
    pub(crate) in_progress: Option<InProgress>,
    /// The span in which the command was submitted.
    pub(crate) span: Span,
    /// The entry's share of the mailbox's capacity.
    pub(crate) _capacity: OwnedSemaphorePermit,
}

impl<A: Aggregate> MailboxEntry<A> {
    /// Passes the result to the caller, if the caller still waits.
    pub(crate) fn complete(self, result: SubmitResult<A>) {
        self.pass(Completion { result, is_duplicate: false });
    }

    /// Passes the result of an earlier command of which this one is a duplicate.
    pub(crate) fn complete_duplicate(self, result: SubmitResult<A>) {
        self.pass(Completion { result, is_duplicate: true });
    }

    fn pass(self, completion: Completion<A>) {
        // First, so that the caller can send again as soon as it has the result.
        drop(self.in_progress);
        let _ = self.result.send(completion);
    }
}

/// The outcome of one command, if the append commits.
#[derive(Debug)]
pub(crate) enum CommandOutcome<A: Aggregate> {
    /// The command caused `count` events; the first is number `first` of the append.
    Accepted { first: u32, count: u32 },
    /// The command was rejected or failed, on the state that the append checks. The append holds
    /// none of its effects.
    Failed(SendError<A::Rejection>),
    /// The command is a duplicate of command number `.0` of the batch.
    DuplicateOf(usize),
    /// An earlier command of the batch has cancelled or replaced the command's timer.
    StaleTimer,
}

impl<A: Aggregate> CommandOutcome<A> {
    /// `true` if the command caused events.
    pub(crate) fn has_events(&self) -> bool {
        matches!(self, Self::Accepted { count: 1.., .. })
    }

    /// `true` if the command failed for a reason outside the domain, so that the append holds no
    /// inbox entry for it.
    pub(crate) fn fails_outside_domain(&self) -> bool {
        let Self::Failed(error) = self else { return false };
        !matches!(
            error,
            SendError::Rejected(_) | SendError::UnexpectedVersion { .. } | SendError::KeyReused
        )
    }
}

/// The result of [`AggregateRuntime::submit`](crate::instance::runtime::AggregateRuntime).
pub(crate) type SubmitResult<A> = Result<Receipt, SubmitError<<A as Aggregate>::Rejection>>;

/// The result of a command, as its caller gets it.
pub(crate) struct Completion<A: Aggregate> {
    pub(crate) result: SubmitResult<A>,
    /// `true` if the result is that of an earlier command.
    pub(crate) is_duplicate: bool,
}

impl<A: Aggregate> Completion<A> {
    /// Returns the completion of a command that has no outcome.
    pub(crate) fn without_outcome(error: SubmitError<A::Rejection>) -> Self {
        Self { result: Err(error), is_duplicate: false }
    }
}

/// The reason why a submitted command has no receipt.
#[derive(Debug)]
pub(crate) enum SubmitError<R: Message> {
    /// The command was rejected or failed.
    Send(SendError<R>),
    /// The command's timer was cancelled or replaced. Nothing was recorded, and nothing needs to be
    /// done.
    StaleTimer,
    /// The instance has not completed the command within the deadline.
    DeadlinePassed,
    /// The mailbox is closed.
    ShuttingDown,
    /// The drain panicked outside the aggregate's code, or the tokio runtime stopped.
    DrainFailed,
}

impl<R: Message> From<SendError<R>> for SubmitError<R> {
    fn from(error: SendError<R>) -> Self {
        Self::Send(error)
    }
}
