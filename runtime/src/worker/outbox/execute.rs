//! Executing one effect of the outbox.

use composable_rust_core::{
    Append, AppendOutcome, EncodedMessage, ExpectedVersion, MessageId, NewInboxEntry, OutboxKind,
    OutboxMessage, OutboxRow, ReplyOutcome, StoreError, StreamId,
};

use crate::app::context::AppContext;
use crate::app::unknown_messages::NewerCode;
use crate::instance::effects::BUS_TARGET;
use crate::instance::receive::{DeliveryOutcome, InboundMessage};
use crate::worker::bus::received::RECEIVED;
use crate::worker::context::{WorkerContext, kept, metadata};
use crate::worker::outbox::dead_letters::answer;
use crate::worker::outbox::gateway::CallAttempt;
use crate::worker::policy::policy::PolicyError;
use crate::worker::projection::registered::Fault;
use crate::worker::quarantine::killed;

/// The digest of the mark of a message that has left for another service.
pub(crate) const FORWARDED_SALT: u128 = 1 << 16;

/// The digest of the mark of a message that was refused. It differs from that of a message that was
/// handled, 0, as the digests of two versions do: the message is absorbed if it comes again.
pub(crate) const DISCARDED_SALT: u128 = 1;

/// Names the content of an answer that says why the gateway's cannot be stored.
const UNSTORABLE: &str = "unstorable";

/// What came of a row.
#[derive(Debug)]
pub(crate) enum Executed {
    /// It is done; these come instead.
    Done(Vec<OutboxMessage>),
    /// A call was erased with the stream that made it.
    Erased,
    /// The handler failed.
    Failed(String),
    /// The handler failed, and this was the last attempt of a call.
    Exhausted(String, Vec<OutboxMessage>),
    /// No attempt can succeed.
    Poison(String),
    /// The process died at every attempt, and there were enough.
    Killed(String),
    /// Something else is in the way.
    Waiting(String),
    /// The recipient is stuck: its stream cannot be loaded.
    Stuck(String),
    /// It was not begun.
    NotBegun(String),
    /// Newer code knows it.
    Newer(NewerCode),
}

/// Keeps in the recipient's inbox that a message is not to be handled here.
///
/// A mark is made under the partition's lock, so that a process that is taken for dead and still
/// commits finds it.
pub(crate) async fn mark(
    shared: &AppContext,
    recipient: StreamId,
    id: uuid::Uuid,
    digest: u128,
) -> Result<AppendOutcome, StoreError> {
    let (first_event, event_count, answer) = (0, 0, Vec::new());
    let message_id = MessageId(id);
    let mark = NewInboxEntry { message_id, digest, first_event, event_count, outcome: answer };
    let append = Append::new(recipient, ExpectedVersion::Any).with_inbox(vec![mark]);
    shared.writer.append(append).await
}

impl WorkerContext {
    pub(crate) async fn execute(&self, row: &OutboxRow) -> Executed {
        if row.behind_parked {
            return Executed::Done(Vec::new());
        }
        match row.queue.kind {
            OutboxKind::Dispatch | OutboxKind::Bulk
                if self.shared.remote.contains(&*row.queue.target) =>
            {
                self.forward(row).await
            }
            OutboxKind::Dispatch | OutboxKind::Bulk => self.dispatch(row).await,
            OutboxKind::Call => self.call(row).await,
            OutboxKind::Policy => self.apply_policy(row).await,
            OutboxKind::Projection => self.project(row).await,
            OutboxKind::Send => self.send(row).await,
            OutboxKind::Timer => Executed::Poison("timers do not wait in the outbox".to_owned()),
        }
    }

    /// What was queued before its target moved to another service goes there, behind what has gone
    /// there since, unless it was handled here.
    async fn forward(&self, row: &OutboxRow) -> Executed {
        let mut queued = row.message.clone();
        match metadata(&queued.row.metadata) {
            Ok(Some(_)) => {}
            // Erased with the stream that sent it.
            Ok(None) => return Executed::Done(Vec::new()),
            Err(reason) => return Executed::Newer(reason),
        }
        let recipient: StreamId = match queued.row.recipient.parse() {
            Ok(recipient) => recipient,
            Err(error) => return Executed::Poison(format!("{error}")),
        };
        match mark(&self.shared, recipient, queued.row.id, FORWARDED_SALT).await {
            // The same mark stands already: it was made by an attempt to forward.
            Ok(AppendOutcome::Committed { .. } | AppendOutcome::Closed) => {
                (queued.row.kind, queued.row.target) = (OutboxKind::Send, BUS_TARGET.to_owned());
                Executed::Done(vec![queued])
            }
            Ok(AppendOutcome::Duplicate(_)) => Executed::Done(Vec::new()),
            Ok(verdict) => Executed::Waiting(format!("the inbox said {verdict:?}")),
            Err(error) if error.is_transient() => Executed::Waiting(error.to_string()),
            Err(error) => Executed::Poison(error.to_string()),
        }
    }

    async fn dispatch(&self, row: &OutboxRow) -> Executed {
        let queued = &row.message.row;
        let metadata = match metadata(&queued.metadata) {
            Ok(Some(metadata)) => metadata,
            // Erased with the stream that sent it.
            Ok(None) => return Executed::Done(Vec::new()),
            Err(reason) => return Executed::Newer(reason),
        };
        let stream = match queued.recipient.parse() {
            Ok(stream) => stream,
            Err(error) => return Executed::Poison(format!("{error}")),
        };
        let (id, content) = (MessageId(queued.id), queued.content.clone());
        let message =
            InboundMessage { stream, id, content, metadata: metadata.clone(), fired_timer: None };
        match self.registry.handle_carried(&message).await {
            DeliveryOutcome::Handled | DeliveryOutcome::Void => Executed::Done(Vec::new()),
            DeliveryOutcome::Closed => {
                let target = &row.queue.target;
                Executed::Done(answer(
                    &row.message,
                    metadata,
                    target,
                    ReplyOutcome::Undelivered,
                    None,
                ))
            }
            DeliveryOutcome::Failed(error) => Executed::Failed(error),
            DeliveryOutcome::Poison(error) => Executed::Poison(error),
            DeliveryOutcome::Killed => Executed::Killed(killed(row.attempts)),
            DeliveryOutcome::Waiting(reason) => Executed::Waiting(reason),
            DeliveryOutcome::Stuck(reason) => Executed::Stuck(reason),
            DeliveryOutcome::Newer(reason) => Executed::Newer(reason),
        }
    }

    async fn call(&self, row: &OutboxRow) -> Executed {
        let Some(registered) = self.gateways.get(row.queue.target.as_str()) else {
            return Executed::Newer(NewerCode::unregistered("gateway", &row.queue.target));
        };
        // Before the call is made: what cannot be read could not be answered.
        let metadata = match metadata(&row.message.row.metadata) {
            Ok(Some(metadata)) => metadata,
            Ok(None) => return Executed::Erased,
            Err(reason) => return Executed::Newer(reason),
        };
        let limit = registered.settings.timeout;
        let called = tokio::select! {
            biased;
            called = registered.gateway.call(self.shared.storage(), row) => called,
            () = self.clock().sleep(limit) => CallAttempt::Retry(format!("no answer within {limit:?}")),
        };
        let target = &row.queue.target;
        match called {
            CallAttempt::Answered(outcome, content) => {
                Executed::Done(answer(&row.message, metadata, target, outcome, Some(content)))
            }
            CallAttempt::Unstorable(reason) => {
                tracing::error!(
                    gateway = %target, id = %row.message.row.id, sender = ?row.message.sender, reason,
                    "the answer of a gateway cannot be stored; its caller is told so"
                );
                let content = EncodedMessage {
                    name: UNSTORABLE.into(),
                    version: 1,
                    codec: "json".into(),
                    bytes: kept(reason).into_bytes(),
                };
                let outcome = ReplyOutcome::Unstorable;
                Executed::Done(answer(&row.message, metadata, target, outcome, Some(content)))
            }
            CallAttempt::Retry(error) => {
                let attempts = registered.settings.retry;
                if attempts.wait_after(row.attempts + 1).is_some() {
                    return Executed::Failed(error);
                }
                let exhausted =
                    answer(&row.message, metadata, target, ReplyOutcome::Exhausted, None);
                Executed::Exhausted(error, exhausted)
            }
            CallAttempt::Unreachable(reason) => Executed::Waiting(reason),
            CallAttempt::Poison(error) => Executed::Poison(error),
            CallAttempt::Newer(reason) => Executed::Newer(reason),
        }
    }

    async fn project(&self, row: &OutboxRow) -> Executed {
        let name = row.queue.target.as_str();
        let Some(projection) = self.projections.get(name) else {
            return Executed::Newer(NewerCode::unregistered("projection", name));
        };
        match projection.project_queued(&self.shared, &row.message).await {
            Ok(()) => Executed::Done(Vec::new()),
            Err(
                Fault::Unavailable(reason) | Fault::LogWentBack(reason) | Fault::Outranked(reason),
            ) => Executed::Waiting(reason),
            Err(Fault::Newer(_, newer)) => Executed::Newer(newer),
            Err(Fault::Poison(_, error)) => Executed::Failed(error),
            Err(Fault::Moved) => Executed::Waiting("it is another's".to_owned()),
        }
    }

    async fn apply_policy(&self, row: &OutboxRow) -> Executed {
        if row.queue.target == RECEIVED {
            return self.receive_again(&row.message).await;
        }
        let input = self.queued_input(&row.message.row.content).await;
        let Some(policy) = self.policies.get(&row.queue.target) else {
            return Executed::Newer(NewerCode::unregistered("policy", &row.queue.target));
        };
        match input {
            Err(error) if error.is_transient() => Executed::Waiting(error.to_string()),
            Err(error) => Executed::Poison(error.to_string()),
            // Erased meanwhile.
            Ok(None) => Executed::Done(Vec::new()),
            Ok(Some(input)) => match policy.apply(&self.shared, &input) {
                Ok(rows) => Executed::Done(rows),
                Err(PolicyError::Newer(reason)) => Executed::Newer(reason),
                Err(PolicyError::Failed(error)) => Executed::Failed(error),
            },
        }
    }
}
