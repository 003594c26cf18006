//! Dead letters: messages that could not be handled, and the operator's decisions about them.

use std::future::Future;

use uuid::Uuid;

use crate::Timestamp;
use crate::queue::{Lease, OutboxMessage, Queue, QueuePosition};
use crate::store::{StoreError, TimerArming};

/// An operator's decision about a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterDecision {
    /// The queue's worker executes the message again, before the messages parked behind it.
    Redrive,
    /// The queue's worker deletes the message; the sender gets the reply `Undelivered`.
    Discard,
}

impl DeadLetterDecision {
    /// Returns the name by which stores keep the decision.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Redrive => "redrive",
            Self::Discard => "discard",
        }
    }

    /// Returns the decision of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Redrive, Self::Discard].into_iter().find(|decision| decision.as_str() == name)
    }
}

/// A message that could not be handled, or is parked behind another dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The queue that the message came from. For a timer: kind
    /// [`OutboxKind::Timer`](crate::queue::OutboxKind::Timer) and the category.
    pub queue: Queue,
    /// The message's position in the queue, which it keeps; for a timer, a position drawn when it
    /// was parked.
    pub position: QueuePosition,
    /// The message and its sender. For a timer: the message to deliver and the timer's stream; the
    /// recipient is the timer's id.
    pub message: OutboxMessage,
    /// The timer's arming; `None` for a row of the outbox.
    pub arming: Option<TimerArming>,
    /// The number of failed attempts.
    pub attempts: u32,
    /// The error of the last attempt; `None` if the message is parked behind another dead letter
    /// and was not attempted.
    pub error: Option<String>,
    /// `true` if no earlier dead letter of the same sender and recipient is parked. An operator can
    /// decide only about such a dead letter.
    pub is_head: bool,
    /// The time of parking, by the store's clock.
    pub parked_at: Timestamp,
    /// The operator's decision, until the queue's worker has carried it out.
    pub decision: Option<DeadLetterDecision>,
}

/// The port to dead letters.
///
/// # Cancel safety
///
/// A dropped call that writes may still commit. Treat it as [`StoreError::Unavailable`].
pub trait DeadLetters: Send + Sync + 'static {
    /// Reads up to `limit` dead letters of all partitions, in order of partitions, then queues and
    /// positions, after the given queue and position; `None` starts with the first.
    fn dead_letters(
        &self,
        after: Option<(Queue, QueuePosition)>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, StoreError>> + Send;

    /// Stores an operator's decision about a dead letter until the queue's worker carries it out; a
    /// later decision replaces it.
    ///
    /// Returns `false` if the partition has no dead letter of this id, or if the dead letter is
    /// parked behind another of its pair.
    fn decide_dead_letter(
        &self,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Reads up to `limit` dead letters of these queues that have a decision.
    fn decided_dead_letters(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<DeadLetter>, StoreError>> + Send;

    /// Carries out the decision about a dead letter, in one transaction.
    ///
    /// - [`Redrive`](DeadLetterDecision::Redrive): the dead letter returns to its position in the
    ///   queue, with no attempts counted, and so do those parked behind it, up to the next that has
    ///   an error of its own. A timer is due at once.
    /// - [`Discard`](DeadLetterDecision::Discard): the dead letter is deleted, and `replies` are
    ///   queued.
    ///
    /// Returns `false` if the lease is no longer at its epoch, or if the decision has changed.
    fn resolve_dead_letter(
        &self,
        lease: &Lease,
        letter: &DeadLetter,
        replies: &[OutboxMessage],
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}
