//! Builders of appends and events.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{NewEvent, StoredContent, StoredEvent};
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, ExpectedVersion, NewInboxEntry,
};
use composable_rust_core::{EventId, MessageId, Position, StreamId, Version};
use composable_rust_postgres::PostgresEventStore;
use futures_util::TryStreamExt as _;
use uuid::Uuid;

pub(crate) fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

/// An event whose id and payload follow from `n`.
pub(crate) fn event(n: u128) -> NewEvent {
    NewEvent {
        id: EventId(Uuid::from_u128(n)),
        content: content("order.placed", &n.to_be_bytes()),
        metadata: r#"{"correlation": "c"}"#.to_owned(),
    }
}

pub(crate) fn content(name: &str, bytes: &[u8]) -> EncodedMessage {
    EncodedMessage {
        name: name.to_owned().into(),
        version: 1,
        codec: "bincode".into(),
        bytes: bytes.to_owned(),
    }
}

pub(crate) fn append(name: &str, expected: ExpectedVersion, ids: &[u128]) -> Append {
    Append::new(stream(name), expected).with_events(ids.iter().copied().map(event).collect())
}

pub(crate) fn mark(message: u128, first_event: u32, event_count: u32) -> NewInboxEntry {
    NewInboxEntry {
        message_id: MessageId(Uuid::from_u128(message)),
        digest: message << 64 | 1,
        first_event,
        event_count,
        outcome: vec![1, 2, 3],
    }
}

pub(crate) fn exact(version: u64) -> ExpectedVersion {
    ExpectedVersion::Exact(Version::new(version))
}

pub(crate) async fn commit(store: &PostgresEventStore, append: &Append) -> AppendOutcome {
    let partition = store.log().partition_of(&append.stream);
    let mut outcomes = store.append_events(partition, std::slice::from_ref(append)).await.unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.remove(0)
}

pub(crate) fn committed(version: u64, partition: u16, offset: u64) -> AppendOutcome {
    committed_before(version, partition, offset, version)
}

/// As [`committed`], with a stream that has advanced to `actual` since.
pub(crate) fn committed_before(
    version: u64,
    partition: u16,
    offset: u64,
    actual: u64,
) -> AppendOutcome {
    let position = Some(Position::new(partition, offset));
    AppendOutcome::Committed {
        version: Version::new(version),
        position,
        actual: Version::new(actual),
    }
}

pub(crate) fn conflict(actual: u64) -> AppendOutcome {
    AppendOutcome::Conflict { actual: Version::new(actual) }
}

pub(crate) async fn load(store: &PostgresEventStore, name: &str) -> Vec<StoredEvent> {
    store.load_events(&stream(name), Version::ZERO).try_collect().await.unwrap()
}

pub(crate) fn bytes(event: &StoredEvent) -> &[u8] {
    match &event.content {
        StoredContent::Present(content) => &content.bytes,
        other => panic!("no content: {other:?}"),
    }
}
