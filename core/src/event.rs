//! Events: on their way into the log, as stored in it, and decoded.

use crate::codec::EncodedMessage;
use crate::{EventId, Id, Metadata, Position, StreamId, Target, Timestamp, Version};

/// An event to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The id: unique, and the same if the append is repeated.
    pub id: EventId,
    /// The name, version and content.
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
    /// The content as it was appended, or as an operator replaced it.
    Present(EncodedMessage),
    /// The content was permanently overwritten. A fold skips the event.
    Erased,
    /// The stream ends here: nothing can be appended after it.
    Closed,
}

impl StoredContent {
    /// Returns the encoded event; `None` if it was erased or closes the stream.
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
    /// The unique id.
    pub id: EventId,
    /// The stream of the event.
    pub stream: StreamId,
    /// The version of the stream at the event, from 1.
    pub version: Version,
    /// The position in the log.
    pub position: Position,
    /// The content, or the reason for its absence.
    pub content: StoredContent,
    /// [`Metadata`] as JSON text; empty once erased. Read it with [`StoredEvent::metadata`].
    pub metadata: String,
    /// The time of the append, by the store's clock.
    pub recorded_at: Timestamp,
}

impl StoredEvent {
    /// Returns the stored name: that of the content, [`ERASED`] or [`CLOSED`].
    pub fn name(&self) -> &str {
        match &self.content {
            StoredContent::Present(content) => &content.name,
            StoredContent::Erased => ERASED,
            StoredContent::Closed => CLOSED,
        }
    }

    /// Returns the metadata; `None` if it was erased or has another format than this version's.
    pub fn metadata(&self) -> Option<Metadata> {
        serde_json::from_str(&self.metadata).ok()
    }

    /// Returns the event with its content decoded to `event`.
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

/// A decoded event, with its position and the time of its append.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded<E> {
    /// The event.
    pub event: E,
    /// The unique id.
    pub id: EventId,
    /// The stream of the event.
    pub stream: StreamId,
    /// The version of the stream at the event, from 1.
    pub version: Version,
    /// The position in the log.
    pub position: Position,
    /// The metadata; `None` as for [`StoredEvent::metadata`].
    pub metadata: Option<Metadata>,
    /// The time of the append, by the store's clock.
    pub recorded_at: Timestamp,
}

impl<E> Recorded<E> {
    /// Creates the event of a test, as if it were the first of the instance `id` and of the log:
    /// recorded at [`Timestamp::EPOCH`], with a nil id and without metadata.
    ///
    /// # Example: calling a policy
    ///
    /// ```
    /// # use composable_rust_core::{Recorded, Target, TargetExt as _};
    /// # fn f<Order: Target>(shipped: Order::Event) {
    /// fn is_of_order_7<E>(recorded: &Recorded<E>) -> bool {
    ///     recorded.stream.id() == "7"
    /// }
    ///
    /// assert!(is_of_order_7(&Recorded::of(&Order::id("7"), shipped)));
    /// # }
    /// ```
    pub fn of<T: Target>(id: &Id<T>, event: E) -> Self {
        Self {
            event,
            id: EventId(uuid::Uuid::nil()),
            stream: id.stream(),
            version: Version::new(1),
            position: Position::new(0, 1),
            metadata: None,
            recorded_at: Timestamp::EPOCH,
        }
    }
}
