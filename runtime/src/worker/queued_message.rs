//! Queued messages: their metadata, their recipients, and replies to their senders.

use composable_rust_core::Metadata;
use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::message::ReplyOutcome;
use composable_rust_core::message::derive_id;
use composable_rust_core::queue::OutboxMessage;
use composable_rust_core::store::NewOutboxRow;
use serde::{Deserialize, Serialize};

use crate::app::unknown_messages::NewerCode;
use crate::instance::effects::reply_row;
use crate::worker::outcome::Failure;

/// Reads the metadata stored beside a message; `None` if the message was erased with the stream
/// that sent it.
///
/// # Errors
///
/// [`Failure::NeedsNewerCode`]: newer code wrote it.
pub(crate) fn metadata(text: &str) -> Result<Option<Metadata>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).map_err(|error| {
        Failure::NeedsNewerCode(NewerCode {
            what: "metadata".to_owned(),
            reason: format!("the metadata of a message cannot be read: {error}"),
        })
    })
}

/// The metadata of a call.
#[derive(Serialize)]
pub(crate) struct CallMetadata {
    #[serde(flatten)]
    pub(crate) metadata: Metadata,
    /// The key that the gateway receives; `None` for the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency_key: Option<String>,
}

impl CallMetadata {
    /// Returns the metadata as it is stored beside the request.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("texts and ids are JSON"))
    }
}

/// Returns the idempotency key of a queued call. Default: the id of its row.
pub(crate) fn idempotency_key(call: &NewOutboxRow) -> String {
    #[derive(Deserialize)]
    struct Key {
        idempotency_key: Option<String>,
    }
    let stored: Option<Key> = serde_json::from_str(&call.metadata).ok();
    stored.and_then(|of| of.idempotency_key).unwrap_or_else(|| call.id.to_string())
}

/// Returns the aggregate type of a recipient, which names its topic.
pub(crate) fn category_of(recipient: &str) -> &str {
    recipient.split('-').next().unwrap_or_default()
}

/// Returns the reply to a message, to be queued behind what its sender has sent: one row, or none
/// where the message expects no reply or is one itself.
pub(crate) fn reply_to(
    message: &OutboxMessage,
    mut metadata: Metadata,
    from: &str,
    outcome: ReplyOutcome,
    content: Option<EncodedMessage>,
) -> Vec<OutboxMessage> {
    // A reply that could not be delivered is not replied to.
    if metadata.reply.is_some() {
        return Vec::new();
    }
    metadata.causation_id = message.row.id;
    let id = derive_id("answer", message.row.id, &[], message.row.id, 0);
    let row = reply_row(id, from, outcome, content, metadata);
    row.map(|row| OutboxMessage { sender: message.sender.clone(), row }).into_iter().collect()
}
