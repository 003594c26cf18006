//! Events, appends and metadata with defaults for everything a test does not care about.
//!
//! ```
//! use composable_rust_core::Message;
//! use composable_rust_testing::fixtures::recorded;
//!
//! #[derive(Debug, Clone, PartialEq, Message)]
//! enum OrderEvent { Shipped { tracking: String } }
//!
//! // What a policy or a projection is given.
//! let recorded = recorded(OrderEvent::Shipped { tracking: "7".to_owned() }).version(3).build();
//! assert_eq!(recorded.version.get(), 3);
//! ```

use std::borrow::Cow;

use composable_rust_core::codec::{Codecs, EncodedMessage};
use composable_rust_core::event::{NewEvent, StoredContent, StoredEvent};
use composable_rust_core::message::Incoming;
use composable_rust_core::store::{Append, ExpectedVersion};
use composable_rust_core::{
    CorrelationId, EventId, Message, MessageId, Metadata, Position, Recorded, StreamId, Timestamp,
    Version,
};
use uuid::Uuid;

use crate::SequentialIds;

/// The default stream of fixtures: `test-1`.
///
/// # Panics
///
/// Never.
pub fn stream() -> StreamId {
    StreamId::new("test", "1").unwrap_or_else(|_| unreachable!("both parts are valid"))
}

/// Metadata with defaults; write `Metadata { user: …, ..metadata() }` for the fields that matter.
pub fn metadata() -> Metadata {
    Metadata {
        correlation_id: CorrelationId(Uuid::nil()),
        causation_id: Uuid::nil(),
        user: None,
        user_from: None,
        traceparent: None,
        return_addresses: Vec::new(),
        reply: None,
        follower: None,
    }
}

/// Message number `n`, arriving at `now`; an argument of `AggregateReducer::incoming`.
pub fn incoming(n: u64, now: Timestamp) -> Incoming {
    Incoming { message_id: MessageId(SequentialIds::nth(n)), metadata: metadata(), now }
}

/// An event to append, of `name` and version 1. No type need decode its `bytes`.
pub fn new_event(name: &'static str, bytes: impl Into<Vec<u8>>) -> NewEventBuilder {
    NewEventBuilder {
        id: SequentialIds::nth(1),
        content: EncodedMessage {
            name: Cow::Borrowed(name),
            version: 1,
            codec: Cow::Borrowed("bincode"),
            bytes: bytes.into(),
        },
        metadata: metadata(),
    }
}

/// A builder of a [`NewEvent`].
#[derive(Debug, Clone)]
#[must_use = "call `.build()`"]
pub struct NewEventBuilder {
    id: Uuid,
    content: EncodedMessage,
    metadata: Metadata,
}

impl NewEventBuilder {
    /// Sets the id to number `n`. Default: 1.
    pub fn id(mut self, n: u64) -> Self {
        self.id = SequentialIds::nth(n);
        self
    }

    /// Sets the schema version of the content. Default: 1.
    pub fn schema(mut self, version: u16) -> Self {
        self.content.version = version;
        self
    }

    /// Sets the user of the metadata. Default: none.
    pub fn by(mut self, user: impl Into<String>) -> Self {
        self.metadata.user = Some(user.into());
        self
    }

    /// Builds the event.
    ///
    /// # Panics
    ///
    /// Never.
    pub fn build(self) -> NewEvent {
        NewEvent { id: EventId(self.id), content: self.content, metadata: json(&self.metadata) }
    }
}

/// An append to `stream`, which must be empty unless [`expecting`](AppendBuilder::expecting) sets
/// another expected version.
///
/// ```
/// use composable_rust_testing::fixtures::{append, stream};
///
/// let append = append(stream()).event("order.placed", b"pencils");
/// let append = append.event("order.shipped", b"").build();
/// assert_eq!(append.events.len(), 2);
/// ```
pub fn append(stream: StreamId) -> AppendBuilder {
    AppendBuilder(Append::new(stream, ExpectedVersion::EMPTY))
}

/// A builder of an [`Append`].
#[derive(Debug, Clone)]
#[must_use = "call `.build()`"]
pub struct AppendBuilder(Append);

impl AppendBuilder {
    /// Sets the expected version. Default: an empty stream.
    pub fn expecting(mut self, expected: ExpectedVersion) -> Self {
        self.0.expected = expected;
        self
    }

    /// Adds an event. Its id is derived from the stream, the expected version and its index, so
    /// that the same append built twice is equal.
    pub fn event(self, name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        let Append { stream, expected, events, .. } = &self.0;
        let key = format!("{stream} {expected:?} {}", events.len());
        let id = MessageId::from_key(&key).0;
        let event = NewEventBuilder { id, ..new_event(name, bytes) };
        self.new_event(event.build())
    }

    /// Adds this event.
    pub fn new_event(mut self, event: NewEvent) -> Self {
        self.0.events.push(event);
        self
    }

    /// Builds the append.
    pub fn build(self) -> Append {
        self.0
    }
}

/// A recorded event: the first of `test-1`, at position 0:1 and the epoch.
pub fn recorded<E: Message>(event: E) -> RecordedBuilder<E> {
    RecordedBuilder(Recorded {
        event,
        id: EventId(SequentialIds::nth(1)),
        stream: stream(),
        version: Version::new(1),
        position: Position::new(0, 1),
        metadata: Some(metadata()),
        recorded_at: Timestamp::EPOCH,
    })
}

/// A builder of a [`Recorded`] or a [`StoredEvent`].
#[derive(Debug, Clone)]
#[must_use = "call `.build()` or `.encoded()`"]
pub struct RecordedBuilder<E>(Recorded<E>);

impl<E: Message> RecordedBuilder<E> {
    /// Sets the id to number `n`. Default: 1.
    pub fn id(mut self, n: u64) -> Self {
        self.0.id = EventId(SequentialIds::nth(n));
        self
    }

    /// Sets the stream, such as `Order::id("7").stream()`. Default: `test-1`.
    pub fn stream(mut self, stream: StreamId) -> Self {
        self.0.stream = stream;
        self
    }

    /// Sets the version. Default: 1.
    pub fn version(mut self, version: u64) -> Self {
        self.0.version = Version::new(version);
        self
    }

    /// Sets the position in the log. Default: 0:1.
    pub fn position(mut self, position: Position) -> Self {
        self.0.position = position;
        self
    }

    /// Sets the time of recording. Default: the epoch.
    pub fn at(mut self, recorded_at: Timestamp) -> Self {
        self.0.recorded_at = recorded_at;
        self
    }

    /// Sets the user of the metadata. Default: none.
    pub fn by(self, user: impl Into<String>) -> Self {
        self.metadata(Metadata { user: Some(user.into()), ..metadata() })
    }

    /// Sets the metadata.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.0.metadata = Some(metadata);
        self
    }

    /// Builds the decoded event, as policies and projections receive it.
    pub fn build(self) -> Recorded<E> {
        self.0
    }

    /// Builds the event as a store keeps it, in the default codec.
    ///
    /// # Panics
    ///
    /// Panics if the event cannot be encoded.
    #[track_caller]
    pub fn encoded(self) -> StoredEvent {
        let Recorded { event, id, stream, version, position, metadata, recorded_at } = self.0;
        let content = match Codecs::default().encode(&stream, &event) {
            Ok(content) => StoredContent::Present(content),
            Err(error) => panic!("`{event:?}` cannot be encoded: {error}"),
        };
        let metadata = metadata.as_ref().map(json).unwrap_or_default();
        StoredEvent { id, stream, version, position, content, metadata, recorded_at }
    }
}

fn json(metadata: &Metadata) -> String {
    serde_json::to_string(metadata)
        .unwrap_or_else(|_| unreachable!("metadata has text keys and plain values"))
}
