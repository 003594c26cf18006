//! Commands and replies of other services, and the queue in which they wait as they were received.

use composable_rust_core::bus::{Delivery as _, SharedDelivery};
use composable_rust_core::message::ReplyOutcome;
use composable_rust_core::queue::{Checkpoints as _, Leases as _, OutboxKind, OutboxMessage};
use composable_rust_core::store::StoreError;
use composable_rust_core::{Metadata, StreamId};
use uuid::Uuid;

use crate::app::unknown_messages::NewerCode;
use crate::worker::bus::connection::BusConnection;
use crate::worker::bus::envelope::{claimed_sender, commands_topic, received};
use crate::worker::context::WorkerContext;
use crate::worker::external_record::{ExternalRecord, rejected_of};
use crate::worker::outcome::Failure;
use crate::worker::queued_input::{Input, InputLane, queued_input, queued_record};
use crate::worker::queued_message::reply_to;
use crate::worker::worker_id::WorkerId;

/// The queue of messages as they were received: those that wait for newer code, and, as dead
/// letters, those that were rejected.
pub(crate) const RECEIVED: &str = "bus/received";

/// Returns the name of the checkpoint that records that a type's commands were served.
pub(crate) fn served_checkpoint(log: Uuid, target: &str) -> String {
    format!("bus/{log}-commands/{}/served", commands_topic(target))
}

/// Returns the row to be queued for a message of another service: the message itself, or the reply
/// to a command whose type is not served.
///
/// A command whose type was served before waits for a process that serves it, as while the last one
/// restarts, until it `is_overdue`.
///
/// # Errors
///
/// - [`Failure::NeedsNewerCode`]: it waits for newer code, or for a process that serves its type.
/// - [`Failure::Poison`]: no process can handle it.
/// - [`Failure::Unavailable`]: the store is unavailable.
pub(crate) async fn receive(
    context: &WorkerContext,
    bus: &BusConnection,
    message: Result<(OutboxMessage, Metadata), Failure>,
    is_overdue: bool,
) -> Result<OutboxMessage, Failure> {
    let (row, metadata) = message?;
    let target = row.row.target.clone();
    if metadata.reply.is_some() || is_served(context, bus, &target).await? {
        return Ok(row);
    }
    let served = served_checkpoint(context.shared.log.id, &target);
    if !is_overdue && !context.store().load_checkpoints(&served).await?.is_empty() {
        return Err(Failure::NeedsNewerCode(NewerCode {
            what: format!("serving `{target}`"),
            reason: format!("no running process serves `{target}`"),
        }));
    }
    if context.logs(&format!("{target} is not served")) {
        tracing::error!(
            target, sender = ?row.sender,
            "received a command of a type that is not served; replying that it is undelivered"
        );
    }
    let replies = reply_to(&row, metadata, &target, ReplyOutcome::Undelivered, None);
    let no_reply = || Failure::Poison(format!("`{target}` is not served"));
    replies.into_iter().next().ok_or_else(no_reply)
}

/// Returns `true` if this process or another of the service serves a type. In a rolling deploy, old
/// processes receive commands that only new ones serve.
async fn is_served(
    context: &WorkerContext,
    bus: &BusConnection,
    target: &str,
) -> Result<bool, StoreError> {
    if bus.served.contains(target) {
        return Ok(true);
    }
    let worker = WorkerId::Service(target.to_owned()).to_string();
    let table = context.store().load_leases(&[worker]).await?;
    Ok(!table.members.is_empty())
}

/// Receives a message again that waited, or was parked, as it was received.
pub(crate) async fn receive_again(
    context: &WorkerContext,
    bus: &BusConnection,
    row: &OutboxMessage,
) -> Result<Vec<OutboxMessage>, Failure> {
    let input = queued_input(context.store(), &row.row.content).await;
    let Some(Input::Record(record)) = input.map_err(|error| Failure::of_store(&error))? else {
        // The message was erased.
        return Ok(Vec::new());
    };
    let worker = WorkerId::of_queue(OutboxKind::Policy, RECEIVED).to_string();
    let is_overdue = context.is_overdue(&worker, &row.row.id);
    let message = received(&context.shared.log, &record.into_message());
    Ok(vec![receive(context, bus, message, is_overdue).await?])
}

/// Returns the lane of a message that waits as it was received: that of its sender, as far as it
/// can be read.
pub(crate) fn lane_of(delivery: &SharedDelivery) -> StreamId {
    let sender = claimed_sender(delivery.message());
    sender.unwrap_or_else(|| ExternalRecord::new(delivery).sender_by_key())
}

/// Returns the row of a message that waits as it was received, in order with others of its lane and
/// key: a message that claims a false sender does not delay what the sender sends to others.
pub(crate) fn waiting_row(record: &ExternalRecord, lane: &StreamId) -> OutboxMessage {
    let recipient = record.sender_by_key().to_string();
    queued(record, lane.clone(), recipient)
}

/// Returns the row of a rejected message. It has a lane of its own, so that it delays no other.
pub(crate) fn rejected_row(record: &ExternalRecord, lane: &StreamId) -> OutboxMessage {
    queued(record, rejected_of(lane), record.id().to_string())
}

fn queued(record: &ExternalRecord, sender: StreamId, recipient: String) -> OutboxMessage {
    let lane = InputLane { queue: RECEIVED.to_owned(), sender, recipient };
    queued_record(lane, record.id(), record)
}
