//! Operators' decisions about dead letters, and replies for messages that will never be handled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::message::ReplyOutcome;
use composable_rust_core::queue::{
    DeadLetter, DeadLetterDecision, DeadLetters as _, OutboxKind, OutboxMessage, Queue,
};
use composable_rust_core::store::{
    Append, AppendOutcome, ExpectedVersion, NewInboxEntry, StoreError,
};
use composable_rust_core::{MessageId, StreamId};
use uuid::Uuid;

use crate::app::context::AppContext;
use crate::worker::context::WorkerContext;
use crate::worker::leases::HeldLease;
use crate::worker::parked_stream::without_its_first;
use crate::worker::queued_message::{category_of, metadata, reply_to};
use crate::worker::worker_id::is_of_relay;

/// Interval at which workers look for operators' decisions.
pub(crate) const DECISION_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Returns the minimum interval between two looks for operators' decisions.
pub(crate) fn decision_interval(context: &WorkerContext) -> Duration {
    if context.is_notified() { Duration::ZERO } else { DECISION_POLL_INTERVAL }
}

/// Maximum decisions that are carried out at a time.
const MAX_DECISIONS: usize = 50;

/// The digest of the inbox entry of a message that was forwarded to another service.
pub(crate) const FORWARDED_DIGEST: u128 = 1 << 16;

/// The digest of the inbox entry of a message that was discarded. It differs from that of a handled
/// message, which is 0, as the digests of two versions differ: a redelivery is a duplicate.
const DISCARDED_DIGEST: u128 = 1;

/// Returns the next dead letters of these queues that were decided about, and `true` if there may
/// be more.
pub(crate) async fn decided(
    context: &WorkerContext,
    held: &BTreeMap<Queue, Arc<HeldLease>>,
) -> Result<(Vec<DeadLetter>, bool), StoreError> {
    let queues: Vec<Queue> = held.keys().cloned().collect();
    if queues.is_empty() {
        return Ok((Vec::new(), false));
    }
    let letters = context.store().decided_dead_letters(&queues, MAX_DECISIONS).await?;
    let has_more = letters.len() >= MAX_DECISIONS;
    Ok((letters, has_more))
}

/// Carries out the decisions about dead letters of these queues.
///
/// # Errors
///
/// [`StoreError`]: some may not be carried out. Read them again, and retry.
pub(crate) async fn carry_out(
    context: &WorkerContext,
    held: &BTreeMap<Queue, Arc<HeldLease>>,
    letters: Vec<DeadLetter>,
) -> Result<(), StoreError> {
    let mut result = Ok(());
    for letter in letters {
        let Some(held) = held.get(&letter.queue) else { continue };
        if let Err(error) = carry_out_one(context, held, &letter).await {
            result = Err(error);
        }
    }
    result
}

async fn carry_out_one(
    context: &WorkerContext,
    held: &HeldLease,
    letter: &DeadLetter,
) -> Result<(), StoreError> {
    let id = letter.message.row.id;
    let mut replies = match replies_to(letter) {
        Ok(replies) => replies,
        Err(error) => {
            tracing::debug!(%id, %error, "failed to discard a dead letter; it waits for newer code");
            return Ok(());
        }
    };
    if letter.decision == Some(DeadLetterDecision::Discard)
        && !record_discarded(&context.shared, &letter.queue, &letter.message).await?
    {
        replies.clear();
    }
    match context.store().resolve_dead_letter(&held.lease, letter, &replies).await {
        Ok(true) => {
            let decision = letter.decision;
            tracing::info!(%id, ?decision, "a dead letter is resolved");
        }
        Ok(false) => {}
        Err(error) if error.is_transient() => return Err(error),
        // Nothing was written, so the sender and the recipient need not wait for it.
        Err(error) => {
            if context.logs(&format!("decision {id}")) {
                tracing::error!(
                    %id, %error,
                    "failed to carry out a decision about a dead letter, which stays; retrying"
                );
            }
        }
    }
    Ok(())
}

/// Records a discarded message in its recipient's inbox, so that a redelivery is a duplicate.
/// Returns `false` if it was handled before: then its sender gets no other reply.
pub(crate) async fn record_discarded(
    shared: &AppContext,
    queue: &Queue,
    message: &OutboxMessage,
) -> Result<bool, StoreError> {
    if !matches!(queue.kind, OutboxKind::Dispatch | OutboxKind::Bulk) {
        return Ok(true);
    }
    // A message without a valid recipient cannot have been handled.
    let Ok(recipient) = message.row.recipient.parse() else { return Ok(true) };
    match record_in_inbox(shared, recipient, message.row.id, DISCARDED_DIGEST).await {
        Err(error) if error.is_transient() => Err(error),
        // A message that is to be forwarded and is still here has not left.
        Ok(AppendOutcome::Duplicate(entries)) => {
            Ok(entries.iter().any(|entry| entry.digest == FORWARDED_DIGEST))
        }
        _ => Ok(true),
    }
}

/// Records in the recipient's inbox that a message is not to be handled here.
///
/// The entry is written under the partition's lock, so that a process that has lost its lease and
/// still commits finds it.
pub(crate) async fn record_in_inbox(
    shared: &AppContext,
    recipient: StreamId,
    id: Uuid,
    digest: u128,
) -> Result<AppendOutcome, StoreError> {
    let (message_id, outcome) = (MessageId(id), Vec::new());
    let entry = NewInboxEntry { message_id, digest, first_event: 0, event_count: 0, outcome };
    let append = Append::new(recipient, ExpectedVersion::Any).with_inbox(vec![entry]);
    shared.writer.append(append).await
}

/// Returns the rows that are queued when a decision about a dead letter is carried out: the reply
/// to the sender of a discarded one, or the rest of a stream that is not published on.
pub(crate) fn replies_to(letter: &DeadLetter) -> Result<Vec<OutboxMessage>, StoreError> {
    let is_discarded = letter.decision == Some(DeadLetterDecision::Discard);
    // A late redelivery, which was never tried, may have been handled and replied to long ago.
    let was_late = letter.attempts == 0 && letter.error.is_some() && !is_of_relay(&letter.queue);
    if is_discarded && !was_late {
        replies_to_discarded(&letter.queue, &letter.message)
    } else {
        Ok(Vec::new())
    }
}

/// Returns the rows that are queued instead of a message that is discarded: the reply to its
/// sender, or the rest of a stream that is not published on.
///
/// # Errors
///
/// [`StoreError::Invalid`]: only newer code can reply to it.
pub(crate) fn replies_to_discarded(
    queue: &Queue,
    message: &OutboxMessage,
) -> Result<Vec<OutboxMessage>, StoreError> {
    if is_of_relay(queue) {
        return Ok(vec![without_its_first(message)]);
    }
    let outcome = match queue.kind {
        OutboxKind::Timer => return Ok(Vec::new()),
        OutboxKind::Call => ReplyOutcome::Exhausted,
        _ => ReplyOutcome::Undelivered,
    };
    let from = match queue.kind {
        // All messages for other services share a queue.
        OutboxKind::Send => category_of(&message.row.recipient),
        _ => &queue.target,
    };
    let metadata = metadata(&message.row.metadata);
    let metadata = metadata.map_err(|failure| StoreError::Invalid(failure.to_string()))?;
    Ok(metadata.map_or_else(Vec::new, |of| reply_to(message, of, from, outcome, None)))
}
