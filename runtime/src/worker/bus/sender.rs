//! Publishing commands and replies to other services.
//!
//! Messages are published without transactions. A row is begun after the earlier row of its sender
//! for the same recipient is acknowledged and settled, so first deliveries are in order, whatever
//! fails and whichever process takes over; the recipient's inbox ignores duplicates.

use std::time::Duration;

use composable_rust_core::Metadata;
use composable_rust_core::bus::{EventBus as _, PublishError};
use composable_rust_core::queue::{OutboxMessage, OutboxRow};
use composable_rust_core::store::NewOutboxRow;
use tracing::Span;

use crate::error::error_chain;
use crate::instance::effects::metadata_json;
use crate::spans;
use crate::worker::bus::connection::BusConnection;
use crate::worker::bus::envelope::{effect_message, excess};
use crate::worker::context::WorkerContext;
use crate::worker::outcome::Failure;
use crate::worker::queued_message::{category_of, metadata};

/// The time that a message under way has when the app stops. After it, another process publishes
/// the message again.
const SEND_GRACE: Duration = Duration::from_secs(2);

/// Publishes a command or reply. Nothing is queued in its place.
pub(crate) async fn send(
    context: &WorkerContext,
    bus: &BusConnection,
    row: &OutboxRow,
) -> Result<Vec<OutboxMessage>, Failure> {
    let (sender, row) = (&row.message.sender, &row.message.row);
    let Some(metadata) = metadata(&row.metadata)? else { return Ok(Vec::new()) };
    // The recipient's span continues from that of this row.
    let traceparent = spans::carried(&Span::current(), metadata.traceparent.clone());
    let message = if traceparent == metadata.traceparent {
        effect_message(&context.shared.log, sender, row)
    } else {
        let metadata = metadata_json(&Metadata { traceparent, ..metadata });
        let row = NewOutboxRow { metadata, ..row.clone() };
        effect_message(&context.shared.log, sender, &row)
    };
    if let Some(error) = excess(&message, bus.bus.max_payload_bytes()) {
        return Err(Failure::Poison(error));
    }
    let published = async {
        if context.shared.remote.contains(category_of(&row.recipient)) {
            bus.bus.publish(message).await
        } else {
            // Another service named the recipient, in a request. If that service is what it claims
            // to be, it reads a topic of that name.
            bus.bus.publish_to_existing(message).await
        }
    };
    let stopping = async {
        context.stop.cancelled().await;
        context.clock().sleep(SEND_GRACE).await;
    };
    let published = tokio::select! {
        biased;
        published = published => published,
        () = stopping => return Err(Failure::Unavailable("the app is shutting down".to_owned())),
    };
    match published {
        Ok(()) => Ok(Vec::new()),
        Err(error @ PublishError::Invalid(_)) => Err(Failure::Poison(error_chain(&error))),
        Err(error @ PublishError::Rejected(_)) => Err(Failure::Failed(error_chain(&error))),
        Err(error @ (PublishError::Unavailable(_) | PublishError::Fenced)) => {
            Err(Failure::Unavailable(error_chain(&error)))
        }
    }
}
