//! Commands and replies of other services.

use composable_rust_core::{
    Checkpoints as _, Delivery as _, Leases as _, MessageId, Metadata, OutboxKind, OutboxMessage,
    ReplyOutcome, SharedDelivery, StoreError, StreamId,
};
use uuid::Uuid;

use crate::app::unknown_messages::NewerCode;
use crate::worker::bus::cloud_event::{EnvelopeError, claimed_sender, commands_topic, received};
use crate::worker::context::WorkerContext;
use crate::worker::leases::worker_of;
use crate::worker::outbox::dead_letters::answer;
use crate::worker::outbox::execute::Executed;
use crate::worker::policy::policy::{ExternalRecord, PolicyInput, queued_for};

/// The queue of messages as they came: those that only newer code can take wait in it, those that
/// nobody can take are its dead letters.
pub(crate) const RECEIVED: &str = "bus/received";

/// The worker that a process announces if it serves a type, so that others know.
pub(crate) fn serve_worker(target: &str) -> String {
    format!("serve/{target}")
}

/// The name under which the store keeps that a type's commands were served here.
pub(crate) fn served_mark(log: Uuid, target: &str) -> String {
    format!("bus/{log}-commands/{}/served", commands_topic(target))
}

impl WorkerContext {
    /// Returns the row to be queued for a message as it was judged: itself, or the answer to a command
    /// whose type is not served.
    ///
    /// A command whose type was served before waits for a process that serves it, as while the last
    /// one is restarted, until it `is_overdue`.
    pub(crate) async fn receive(
        &self,
        judged: Result<(OutboxMessage, Metadata), EnvelopeError>,
        is_overdue: bool,
    ) -> Result<Result<OutboxMessage, EnvelopeError>, StoreError> {
        let (row, metadata) = match judged {
            Ok(taken) => taken,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let target = row.row.target.clone();
        if metadata.reply.is_some() || self.serves(&target).await? {
            return Ok(Ok(row));
        }
        let mark = served_mark(self.shared.log.id, &target);
        if !is_overdue && !self.store().load_checkpoints(&mark).await?.is_empty() {
            return Ok(Err(EnvelopeError::Newer(NewerCode {
                what: format!("serving `{target}`"),
                reason: format!("no running process serves `{target}`"),
            })));
        }
        if self.logs(&format!("{target} is not served")) {
            tracing::error!(
                target, sender = ?row.sender,
                "a command came over the bus, but its type is not served; answering undelivered"
            );
        }
        let undelivered = ReplyOutcome::Undelivered;
        let answers = answer(&row, metadata, &target, undelivered, None);
        let unasked = || EnvelopeError::Never(format!("`{target}` is not served"));
        Ok(answers.into_iter().next().ok_or_else(unasked))
    }

    /// Whether this process or another of the service serves a type. In a rolling deploy, old
    /// processes receive what only new ones serve.
    async fn serves(&self, target: &str) -> Result<bool, StoreError> {
        if self.served.contains(target) {
            return Ok(true);
        }
        let table = self.store().load_leases(&[serve_worker(target)]).await?;
        Ok(!table.members.is_empty())
    }

    /// Takes a message that waited or was parked as it came.
    pub(crate) async fn receive_again(&self, row: &OutboxMessage) -> Executed {
        let record = match self.queued_input(&row.row.content).await {
            Ok(Some(PolicyInput::Message(record))) => record,
            Ok(_) => return Executed::Done(Vec::new()),
            Err(error) if error.is_transient() => return Executed::Waiting(error.to_string()),
            Err(error) => return Executed::Poison(error.to_string()),
        };
        let is_overdue = self.is_overdue(&worker_of(OutboxKind::Policy, RECEIVED), &row.row.id);
        match self.receive(received(&self.shared.log, &record.into_message()), is_overdue).await {
            Ok(Ok(row)) => Executed::Done(vec![row]),
            Ok(Err(EnvelopeError::Newer(reason))) => Executed::Newer(reason),
            Ok(Err(EnvelopeError::Never(reason))) => Executed::Poison(reason),
            Err(error) => Executed::Waiting(error.to_string()),
        }
    }
}

/// The lane of a message that waits as it came: that of its sender, as far as one can tell.
pub(crate) fn lane_of(delivery: &SharedDelivery) -> StreamId {
    let sender = claimed_sender(delivery.message());
    sender.unwrap_or_else(|| ExternalRecord::new(delivery).sender_by_key())
}

/// The row of a message that waits as it came, in order with others of its lane and key: what bears
/// its sender's name falsely holds up nothing that the sender sends to others.
pub(crate) fn waiting_row(record: &ExternalRecord, lane: &StreamId) -> OutboxMessage {
    let recipient = record.sender_by_key();
    queued_for(RECEIVED, lane.clone(), recipient.as_str(), id_of(record), record)
}

/// The row of a message that nobody can take. It is alone with its recipient, so that it holds up
/// nothing.
pub(crate) fn refused_row(record: &ExternalRecord, lane: &StreamId) -> OutboxMessage {
    let id = id_of(record);
    queued_for(RECEIVED, refused_of(lane), &id.to_string(), id, record)
}

/// The sender of what is refused of a lane: it is erased with the lane, and delays nothing of it.
pub(crate) fn refused_of(lane: &StreamId) -> StreamId {
    let id = MessageId::from_elsewhere("refused", lane.as_str());
    format!("bus_refused-{id}").parse().unwrap_or_else(|_| unreachable!("a category and a UUID"))
}

fn id_of(record: &ExternalRecord) -> Uuid {
    let ExternalRecord { topic, partition, offset, .. } = record;
    let id = record.header("ce_id").unwrap_or_default();
    MessageId::from_elsewhere(&format!("place:{topic}"), &format!("{partition}:{offset}:{id}")).0
}
