//! Events: on their way into the log, as stored in it, and decoded.

use crate::codec::EncodedMessage;
use crate::{EventId, Metadata, Position, StreamId, Timestamp, Version};

/// An event to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Unique, and the same when the same append is sent again.
    pub id: EventId,
    /// Name, version and content.
    pub content: EncodedMessage,
    /// [`Metadata`] as JSON text.
    pub metadata: String,
}

/// The type of an event whose content was erased.
pub const ERASED: &str = "$erased";
/// The type of the last event of a closed stream.
pub const CLOSED: &str = "$closed";

/// The content of a stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredContent {
    /// As it was appended, or as an operator replaced it.
    Present(EncodedMessage),
    /// Overwritten for good. A fold skips it.
    Erased,
    /// The stream ends here: nothing can be appended after it.
    Closed,
}

impl StoredContent {
    /// The encoded event; `None` if it was erased, or if it closes the stream.
    pub fn present(&self) -> Option<&EncodedMessage> {
        match self {
            Self::Present(content) => Some(content),
            Self::Erased | Self::Closed => None,
        }
    }
}

/// An event as the store keeps it, not yet decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Unique.
    pub id: EventId,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its place in the stream, from 1.
    pub version: Version,
    /// Its place in the log.
    pub position: Position,
    /// Its content, or why there is none.
    pub content: StoredContent,
    /// [`Metadata`] as JSON text; empty once erased. Read it with [`StoredEvent::metadata`].
    pub metadata: String,
    /// When it was appended, by the store's clock.
    pub recorded_at: Timestamp,
}

impl StoredEvent {
    /// The stored name: that of the content, [`ERASED`] or [`CLOSED`].
    pub fn name(&self) -> &str {
        match &self.content {
            StoredContent::Present(content) => &content.name,
            StoredContent::Erased => ERASED,
            StoredContent::Closed => CLOSED,
        }
    }

    /// The metadata; `None` once erased or when it is not what this version writes.
    pub fn metadata(&self) -> Option<Metadata> {
        serde_json::from_str(&self.metadata).ok()
    }

    /// The same with its content decoded to `event`.
    pub fn decoded<E>(&self, event: E) -> Recorded<E> {
        Recorded {
            event,
            id: self.id,
            stream: self.stream.clone(),
            version: self.version,
            position: self.position,
            metadata: self.metadata(),
            recorded_at: self.recorded_at,
        }
    }
}

/// An event decoded to its type, with where and when it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded<E> {
    /// The event.
    pub event: E,
    /// Unique.
    pub id: EventId,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its place in the stream, from 1.
    pub version: Version,
    /// Its place in the log.
    pub position: Position,
    /// What is known about it besides its content.
    pub metadata: Option<Metadata>,
    /// When it was appended, by the store's clock.
    pub recorded_at: Timestamp,
}
