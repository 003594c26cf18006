//! Builders of appends and events.

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::{NewEvent, StoredEvent};
use composable_rust_core::store::{Append, AppendOutcome, EventStore, ExpectedVersion};
use composable_rust_core::{EventId, StreamId, Version};
use composable_rust_sqlite::SqliteEventStore;
use futures_util::TryStreamExt as _;
use uuid::Uuid;

pub(crate) fn stream(id: &str) -> StreamId {
    StreamId::new("order", id).unwrap()
}

/// `count` events of `bytes` bytes each.
pub(crate) fn events(count: usize, bytes: usize) -> Vec<NewEvent> {
    let event = |_| NewEvent {
        id: EventId(Uuid::new_v4()),
        content: EncodedMessage {
            name: "order.placed".into(),
            version: 1,
            codec: "bincode".into(),
            bytes: vec![7; bytes],
        },
        metadata: r#"{"correlation":"x"}"#.to_owned(),
    };
    (0..count).map(event).collect()
}

pub(crate) fn append(id: &str, expected: ExpectedVersion, count: usize) -> Append {
    Append::new(stream(id), expected).with_events(events(count, 50))
}

/// Appends to the stream's partition.
pub(crate) async fn commit(store: &SqliteEventStore, append: &Append) -> AppendOutcome {
    let partition = store.log().partition_of(&append.stream);
    store.append_events(partition, std::slice::from_ref(append)).await.unwrap().remove(0)
}

pub(crate) async fn load(store: &SqliteEventStore, id: &str) -> Vec<StoredEvent> {
    store.load_events(&stream(id), Version::ZERO).try_collect().await.unwrap()
}
