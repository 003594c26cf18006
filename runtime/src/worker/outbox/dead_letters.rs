//! Carrying out what operators have decided about dead letters, and answering for what will never be
//! handled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::__private::derive_id;
use composable_rust_core::{
    AppendOutcome, DeadLetter, DeadLetterDecision, DeadLetters as _, Metadata, OutboxKind,
    OutboxMessage, Queue, ReplyOutcome, StoreError,
};

use crate::app::context::AppContext;
use crate::instance::effects::reply_row;
use crate::worker::bus::cloud_event::category_of;
use crate::worker::bus::parked_streams::{is_of_relay, without_its_first};
use crate::worker::context::{WorkerContext, metadata};
use crate::worker::leases::HeldLease;
use crate::worker::outbox::execute::{DISCARDED_SALT, FORWARDED_SALT, mark};

/// Decisions that are carried out at a time.
const MAX_DECISIONS: usize = 50;
/// How often operators' decisions are looked for.
pub(crate) const DECISION_POLL_INTERVAL: Duration = Duration::from_secs(1);

impl WorkerContext {
    /// The next dead letters of these queues that a decision was made about. Gives also whether there
    /// may be more.
    pub(crate) async fn decided(
        &self,
        held: &BTreeMap<Queue, Arc<HeldLease>>,
    ) -> Result<(Vec<DeadLetter>, bool), StoreError> {
        let queues: Vec<Queue> = held.keys().cloned().collect();
        if queues.is_empty() {
            return Ok((Vec::new(), false));
        }
        let letters = self.store().decided_dead_letters(&queues, MAX_DECISIONS).await?;
        let more = letters.len() >= MAX_DECISIONS;
        Ok((letters, more))
    }

    /// Does what was decided about dead letters of these queues. Gives those that are resolved, or
    /// may be, and what went wrong.
    pub(crate) async fn carry_out(
        &self,
        held: &BTreeMap<Queue, Arc<HeldLease>>,
        letters: Vec<DeadLetter>,
    ) -> (Vec<DeadLetter>, Result<(), StoreError>) {
        let mut changed = Vec::new();
        let mut done = Ok(());
        for letter in letters {
            let Some(held) = held.get(&letter.queue) else { continue };
            let mut answers = match answers_to(&letter) {
                Ok(answers) => answers,
                Err(error) => {
                    let id = letter.message.row.id;
                    tracing::debug!(%id, %error, "a dead letter waits for newer code to refuse it");
                    continue;
                }
            };
            if letter.decision == Some(DeadLetterDecision::Discard) {
                match mark_refused(&self.shared, &letter.queue, &letter.message).await {
                    Ok(true) => {}
                    Ok(false) => answers.clear(),
                    Err(error) => {
                        done = Err(error);
                        continue;
                    }
                }
            }
            match self.store().resolve_dead_letter(&held.lease, &letter, &answers).await {
                Ok(true) => {
                    let (id, decision) = (letter.message.row.id, letter.decision);
                    tracing::info!(%id, ?decision, "a dead letter is resolved");
                }
                Ok(false) => continue,
                Err(error) if error.is_transient() => done = Err(error),
                // Nothing has come of it, so its pair need not wait.
                Err(error) => {
                    let id = letter.message.row.id;
                    if self.logs(&format!("decision {id}")) {
                        tracing::error!(
                            %id, %error,
                            "failed to carry out a decision about a dead letter, which stays; retrying"
                        );
                    }
                    continue;
                }
            }
            changed.push(letter);
        }
        (changed, done)
    }
}

/// Marks a refused message as handled, so that it is absorbed if it comes again. Returns `false` if it
/// was handled before: its sender is not to be told otherwise.
pub(crate) async fn mark_refused(
    shared: &AppContext,
    queue: &Queue,
    queued: &OutboxMessage,
) -> Result<bool, StoreError> {
    if !matches!(queue.kind, OutboxKind::Dispatch | OutboxKind::Bulk) {
        return Ok(true);
    }
    // What has no recipient is not handled anyway.
    let Ok(recipient) = queued.row.recipient.parse() else { return Ok(true) };
    match mark(shared, recipient, queued.row.id, DISCARDED_SALT).await {
        Err(error) if error.is_transient() => Err(error),
        // What was to be forwarded and is still here has not left.
        Ok(AppendOutcome::Duplicate(marks)) => {
            Ok(marks.iter().any(|mark| mark.digest == FORWARDED_SALT))
        }
        _ => Ok(true),
    }
}

/// What is queued when a decision is carried out: what the sender of a refused dead letter is told, or
/// the rest of a stream that is not published on.
pub(crate) fn answers_to(letter: &DeadLetter) -> Result<Vec<OutboxMessage>, StoreError> {
    let refused = letter.decision == Some(DeadLetterDecision::Discard);
    // One that came too late to be tried may have been handled, and answered, long ago.
    let was_late = letter.attempts == 0 && letter.error.is_some() && !is_of_relay(&letter.queue);
    if refused && !was_late { refusal(&letter.queue, &letter.message) } else { Ok(Vec::new()) }
}

/// What is queued instead of a message that nobody will handle: what its sender is told, or the rest
/// of a stream that is not published on. An error says that newer code must tell it.
pub(crate) fn refusal(
    queue: &Queue,
    queued: &OutboxMessage,
) -> Result<Vec<OutboxMessage>, StoreError> {
    if is_of_relay(queue) {
        return Ok(vec![without_its_first(queued)]);
    }
    let outcome = match queue.kind {
        OutboxKind::Timer => return Ok(Vec::new()),
        OutboxKind::Call => ReplyOutcome::Exhausted,
        _ => ReplyOutcome::Undelivered,
    };
    let from = match queue.kind {
        // Its queue is that of everything for other services.
        OutboxKind::Send => category_of(&queued.row.recipient),
        _ => &queue.target,
    };
    let metadata = metadata(&queued.row.metadata);
    let metadata = metadata.map_err(|newer| StoreError::Invalid(newer.reason))?;
    Ok(metadata.map_or_else(Vec::new, |of| answer(queued, of, from, outcome, None)))
}

/// The answer to an effect, queued behind what its sender has sent.
pub(crate) fn answer(
    of: &OutboxMessage,
    mut metadata: Metadata,
    from: &str,
    outcome: ReplyOutcome,
    content: Option<composable_rust_core::EncodedMessage>,
) -> Vec<OutboxMessage> {
    // What could not be delivered as an answer is not answered itself.
    if metadata.reply.is_some() {
        return Vec::new();
    }
    metadata.causation_id = of.row.id;
    let id = derive_id("answer", of.row.id, &[], of.row.id, 0);
    let row = reply_row(id, from, outcome, content, metadata);
    row.map(|row| OutboxMessage { sender: of.sender.clone(), row }).into_iter().collect()
}
