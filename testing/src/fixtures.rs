//! Events and their surroundings, with everything filled in that a test does not care about.
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

use composable_rust_core::{
    Append, Codecs, CorrelationId, EncodedMessage, EventId, ExpectedVersion, Incoming, Message,
    MessageId, Metadata, NewEvent, Position, Recorded, StoredContent, StoredEvent, StreamId,
    Timestamp, Version,
};
use uuid::Uuid;

use crate::SequentialIds;

/// The stream of fixtures that name no other: `test-1`.
///
/// # Panics
///
/// Never.
pub fn stream() -> StreamId {
    StreamId::new("test", "1").unwrap_or_else(|_| unreachable!("both parts are valid"))
}

/// Metadata that says nothing; write `Metadata { user: …, ..metadata() }` for what it should say.
pub fn metadata() -> Metadata {
    Metadata {
        correlation_id: CorrelationId(Uuid::nil()),
        causation_id: Uuid::nil(),
        user: None,
        user_from: None,
        traceparent: None,
        return_addresses: Vec::new(),
        reply: None,
    }
}

/// A message, number `n`, that arrives at `now`; what `AggregateReducer::incoming` takes.
pub fn incoming(n: u64, now: Timestamp) -> Incoming {
    Incoming { message_id: MessageId(SequentialIds::nth(n)), metadata: metadata(), now }
}

/// An event to be appended, of `name` and version 1, with `bytes` that no type need understand.
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

/// A [`NewEvent`] being built.
#[derive(Debug, Clone)]
#[must_use = "call `.build()`"]
pub struct NewEventBuilder {
    id: Uuid,
    content: EncodedMessage,
    metadata: Metadata,
}

impl NewEventBuilder {
    /// With id number `n`; unless said, 1.
    pub fn id(mut self, n: u64) -> Self {
        self.id = SequentialIds::nth(n);
        self
    }

    /// With this version of the content's shape.
    pub fn schema(mut self, version: u16) -> Self {
        self.content.version = version;
        self
    }

    /// Sent by `user`.
    pub fn by(mut self, user: impl Into<String>) -> Self {
        self.metadata.user = Some(user.into());
        self
    }

    /// The event.
    ///
    /// # Panics
    ///
    /// Never.
    pub fn build(self) -> NewEvent {
        NewEvent { id: EventId(self.id), content: self.content, metadata: json(&self.metadata) }
    }
}

/// An append to `stream`, which must be empty unless [`expecting`](AppendBuilder::expecting) says
/// otherwise.
///
/// ```
/// use composable_rust_testing::fixtures::{append, stream};
///
/// let append = append(stream()).event("order.placed", b"pencils").event("order.shipped", b"").build();
/// assert_eq!(append.events.len(), 2);
/// ```
pub fn append(stream: StreamId) -> AppendBuilder {
    AppendBuilder(Append::new(stream, ExpectedVersion::EMPTY))
}

/// An [`Append`] being built.
#[derive(Debug, Clone)]
#[must_use = "call `.build()`"]
pub struct AppendBuilder(Append);

impl AppendBuilder {
    /// To a stream that is so.
    pub fn expecting(mut self, expected: ExpectedVersion) -> Self {
        self.0.expected = expected;
        self
    }

    /// With one event more. Its id is derived from the stream, what is expected of it, and the
    /// event's place in the append, so that the same append built again is the same.
    pub fn event(self, name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        let Append { stream, expected, events, .. } = &self.0;
        let key = format!("{stream} {expected:?} {}", events.len());
        let id = MessageId::from_key(&key).0;
        let event = NewEventBuilder { id, ..new_event(name, bytes) };
        self.new_event(event.build())
    }

    /// With this event more.
    pub fn new_event(mut self, event: NewEvent) -> Self {
        self.0.events.push(event);
        self
    }

    /// The append.
    pub fn build(self) -> Append {
        self.0
    }
}

/// An event as it was recorded: the first of `test-1`, at position 0:1, at the epoch.
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

/// A [`Recorded`] or [`StoredEvent`] being built.
#[derive(Debug, Clone)]
#[must_use = "call `.build()` or `.encoded()`"]
pub struct RecordedBuilder<E>(Recorded<E>);

impl<E: Message> RecordedBuilder<E> {
    /// With id number `n`; unless said, 1.
    pub fn id(mut self, n: u64) -> Self {
        self.0.id = EventId(SequentialIds::nth(n));
        self
    }

    /// In this stream, such as `Order::id("7").stream()`.
    pub fn stream(mut self, stream: StreamId) -> Self {
        self.0.stream = stream;
        self
    }

    /// At this place in the stream, from 1.
    pub fn version(mut self, version: u64) -> Self {
        self.0.version = Version::new(version);
        self
    }

    /// At this place in the log.
    pub fn position(mut self, position: Position) -> Self {
        self.0.position = position;
        self
    }

    /// Recorded at this moment.
    pub fn at(mut self, recorded_at: Timestamp) -> Self {
        self.0.recorded_at = recorded_at;
        self
    }

    /// Sent by `user`.
    pub fn by(self, user: impl Into<String>) -> Self {
        self.metadata(Metadata { user: Some(user.into()), ..metadata() })
    }

    /// With this metadata.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.0.metadata = Some(metadata);
        self
    }

    /// The event, decoded: what policies and projections are given.
    pub fn build(self) -> Recorded<E> {
        self.0
    }

    /// The event as a store keeps it, in the default codec.
    ///
    /// # Panics
    ///
    /// When it cannot be encoded.
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
