//! Records of topics, as any producer writes them.

use composable_rust_core::bus::{
    BusMessage, BusRecord, Delivery as _, SharedDelivery, TopicOffset,
};
use composable_rust_core::event::ERASED;
use composable_rust_core::{MessageId, StreamId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A record of a topic that was not written by this framework.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRecord {
    /// The topic.
    pub topic: String,
    /// The topic's partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The key; `None` if the record has none.
    pub key: Option<Vec<u8>>,
    /// The headers' names and values; `None` for a header without a value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The content; `None` for a tombstone, which deletes what the key names.
    pub payload: Option<Vec<u8>>,
}

impl ExternalRecord {
    pub(crate) fn new(delivery: &SharedDelivery) -> Self {
        let (topic, at) = (delivery.message().topic.clone(), delivery.offset());
        let TopicOffset { partition, offset } = at;
        let BusRecord { key, headers, payload } = delivery.record();
        Self { topic, partition, offset, key, headers, payload }
    }

    /// Returns the value of the first header of this name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }

    /// Returns the key, if the record has one and it is text.
    pub fn key_text(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok()
    }

    /// Converts the record to a message, its key and headers to text.
    pub(crate) fn into_message(self) -> BusMessage {
        let text = |bytes: Option<Vec<u8>>| {
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        BusMessage {
            topic: self.topic,
            key: text(self.key),
            headers: self.headers.into_iter().map(|(name, value)| (name, text(value))).collect(),
            payload: self.payload.unwrap_or_default(),
        }
    }

    /// Returns `true` if the record says that its stream was erased in the service that publishes
    /// it.
    pub(crate) fn is_erasure(&self) -> bool {
        self.header("ce_type") == Some(ERASED)
    }

    /// Returns the id of the record as the cause of commands: derived from its CloudEvents source
    /// and id, or else from its topic and offset. A record of another source cannot have the same.
    pub(crate) fn cause(&self) -> Uuid {
        let event = self.header("ce_source").zip(self.header("ce_id"));
        let id = event.map_or_else(
            || MessageId::from_elsewhere(&format!("topic:{}", self.topic), &self.place()),
            |(source, id)| MessageId::from_elsewhere(&format!("cloudevents:{source}"), id),
        );
        id.0
    }

    /// Returns the id of the record as a message of the queue of received ones.
    pub(crate) fn id(&self) -> Uuid {
        let id = self.header("ce_id").unwrap_or_default();
        let (topic, place) = (&self.topic, self.place());
        MessageId::from_elsewhere(&format!("place:{topic}"), &format!("{place}:{id}")).0
    }

    fn place(&self) -> String {
        format!("{}:{}", self.partition, self.offset)
    }

    /// Returns the stream that represents the record's key as a sender of effects. The erasure of a
    /// sender has one of its own.
    pub(crate) fn sender(&self) -> StreamId {
        let sender = self.sender_by_key();
        if self.is_erasure() { erasure_of(&sender) } else { sender }
    }

    /// Returns the stream that represents the record's key. A record without a key is not ordered
    /// with others, and has one of its own.
    pub(crate) fn sender_by_key(&self) -> StreamId {
        let topic = &self.topic;
        let id = match (&self.key, self.key_text()) {
            (_, Some(text)) => MessageId::from_elsewhere(&format!("key:{topic}"), text),
            (Some(bytes), None) => {
                MessageId::from_elsewhere(&format!("bytes:{topic}"), &format!("{bytes:?}"))
            }
            (None, None) => MessageId::from_elsewhere(&format!("place:{topic}"), &self.place()),
        };
        derived_sender("topic", id)
    }
}

/// Returns the sender of the commands that follow from the erasure of `sender`: they are not erased
/// with it.
pub(crate) fn erasure_of(sender: &StreamId) -> StreamId {
    derived_sender("erasure", MessageId::from_elsewhere("erasure", sender.as_str()))
}

/// Returns the sender of late redeliveries of `sender`: they are erased with it, and do not delay
/// its other messages.
pub(crate) fn late_of(sender: &StreamId) -> StreamId {
    derived_sender("late", MessageId::from_elsewhere("late", sender.as_str()))
}

/// Returns the sender of rejected messages of `sender`: they are erased with it, and do not delay
/// its other messages.
pub(crate) fn rejected_of(sender: &StreamId) -> StreamId {
    derived_sender("refused", MessageId::from_elsewhere("refused", sender.as_str()))
}

fn derived_sender(kind: &str, id: MessageId) -> StreamId {
    format!("bus_{kind}-{id}").parse().unwrap_or_else(|_| unreachable!("a category and a UUID"))
}
