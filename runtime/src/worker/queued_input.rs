//! Events and records in the outbox: inputs that a policy, or the consumer of commands, must try
//! again.

use std::collections::BTreeSet;

use composable_rust_core::codec::{EncodedMessage, Format};
use composable_rust_core::codec::{decode_value, encode_value};
use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{Outbox as _, OutboxKind, OutboxMessage, Queue};
use composable_rust_core::store::{
    EventStore as _, MAX_PAYLOAD_BYTES, NewOutboxRow, SharedEventStore, StoreError,
};
use composable_rust_core::{Position, StreamId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::worker::external_record::ExternalRecord;

/// An event of the log, or a record of a topic.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Event(Box<StoredEvent>),
    Record(ExternalRecord),
}

impl Input {
    /// Returns the stream, or the sender of a record, whose inputs are handled in order.
    pub(crate) fn sender(&self) -> StreamId {
        match self {
            Self::Event(event) => event.stream.clone(),
            Self::Record(record) => record.sender(),
        }
    }

    /// Returns the id from which the ids of the input's messages are derived.
    pub(crate) fn cause(&self) -> Uuid {
        match self {
            Self::Event(event) => event.id.0,
            Self::Record(record) => record.cause(),
        }
    }
}

/// The content of a row that holds an input.
#[derive(Serialize, Deserialize)]
enum QueuedInput {
    /// The position of an event.
    Event(String),
    Record(ExternalRecord),
    /// The place of a record that is too large for a row.
    Omitted {
        topic: String,
        partition: i32,
        offset: i64,
        bytes: usize,
    },
}

/// The name of the content.
const INPUT: &str = "input";

/// The queue and the lane in which an input waits.
pub(crate) struct InputLane {
    /// The policy, or the queue of received messages.
    pub(crate) queue: String,
    pub(crate) sender: StreamId,
    pub(crate) recipient: String,
}

/// Returns the row that holds an event until the worker of its queue tries it again.
pub(crate) fn queued_event(lane: InputLane, id: Uuid, event: &StoredEvent) -> OutboxMessage {
    let content = QueuedInput::Event(event.position.to_string());
    queued(lane, id, &content, event.metadata.clone())
}

/// Returns the row that holds a record until the worker of its queue tries it again.
pub(crate) fn queued_record(lane: InputLane, id: Uuid, record: &ExternalRecord) -> OutboxMessage {
    let mut row = queued(lane, id, &QueuedInput::Record(record.clone()), String::new());
    if row.row.content.bytes.len() > MAX_PAYLOAD_BYTES {
        let ExternalRecord { topic, partition, offset, payload, .. } = record;
        let (topic, bytes) = (topic.clone(), payload.as_ref().map_or(0, Vec::len));
        let omitted = QueuedInput::Omitted { topic, partition: *partition, offset: *offset, bytes };
        row.row.content = encoded(&omitted);
    }
    row
}

fn queued(lane: InputLane, id: Uuid, content: &QueuedInput, metadata: String) -> OutboxMessage {
    let InputLane { queue, sender, recipient } = lane;
    let (kind, content) = (OutboxKind::Policy, encoded(content));
    OutboxMessage {
        sender,
        row: NewOutboxRow { id, kind, target: queue, recipient, content, metadata },
    }
}

fn encoded(content: &QueuedInput) -> EncodedMessage {
    let bytes = encode_value(Format::Binary, content)
        .unwrap_or_else(|_| unreachable!("texts, numbers and bytes are encodable"));
    EncodedMessage { name: INPUT.into(), version: 1, codec: "bincode".into(), bytes }
}

/// Reads the input that a row holds; `None` if it was erased.
pub(crate) async fn queued_input(
    store: &SharedEventStore,
    content: &EncodedMessage,
) -> Result<Option<Input>, StoreError> {
    let malformed =
        || StoreError::Invalid("the row does not hold the input of a policy".to_owned());
    if content.name != INPUT {
        return Ok(None);
    }
    let queued = decode_value(Format::Binary, &content.bytes).map_err(|_| malformed())?;
    let at: Position = match queued {
        QueuedInput::Record(record) => return Ok(Some(Input::Record(record))),
        QueuedInput::Omitted { topic, partition, offset, bytes } => {
            return Err(StoreError::Invalid(format!(
                "a message of {bytes} bytes is too large for a row; read it from the topic \
                 `{topic}`, partition {partition}, offset {offset}"
            )));
        }
        QueuedInput::Event(at) => at.parse().map_err(|_| malformed())?,
    };
    let before = Position::new(at.partition, at.offset.saturating_sub(1));
    let events = store.read_log(&[before], 1).await?;
    let event = events.into_iter().find(|event| event.position == at);
    Ok(event.map(|event| Input::Event(Box::new(event))))
}

/// The streams that have an input in a queue, so that later inputs must wait behind it.
pub(crate) type WaitingStreams = BTreeSet<StreamId>;

/// Loads the streams that have an input in a partition of a queue.
pub(crate) async fn waiting_streams(
    store: &SharedEventStore,
    queue: &str,
    partition: u16,
) -> Result<WaitingStreams, StoreError> {
    let queue = Queue { partition, kind: OutboxKind::Policy, target: queue.to_owned() };
    Ok(store.queued_streams(&queue).await?.into_iter().collect())
}
