//! Defects of erasing, closing and overriding.

use std::collections::BTreeMap;
use std::sync::Mutex;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::ERASED;
use composable_rust_core::event::{NewEvent, StoredContent};
use composable_rust_core::queue::InboxEntry;
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, ExpectedVersion, StoreError,
};
use composable_rust_core::{EventId, StreamId, Version};
use composable_rust_testing::{
    InMemoryEventStore, Intercept, StoreCall, StoredOutboxRow, StreamRows,
};

use super::super::store::{Backing, poll, with_events};
use super::reads::save_whatever_was_last;

/// Erases the events of a stream, but not its other data.
pub(crate) struct ErasesOnlyEvents;

impl Intercept<InMemoryEventStore> for ErasesOnlyEvents {
    async fn erase_stream(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
    ) -> Result<u64, StoreError> {
        let snapshots = store.snapshots(stream);
        let erased = store.erase_stream(stream).await?;
        for (_, snapshot) in snapshots {
            save_whatever_was_last(store, stream, &snapshot);
        }
        Ok(erased)
    }

    fn after_load_inbox_entry(&self, mark: Option<InboxEntry>) -> Option<InboxEntry> {
        mark.map(|mark| InboxEntry { outcome: b"kept".to_vec(), ..mark })
    }
}

impl Backing for ErasesOnlyEvents {
    fn outbox(&self, mut rows: Vec<StoredOutboxRow>) -> Vec<StoredOutboxRow> {
        for row in &mut rows {
            row.row.content.bytes = b"kept".to_vec();
        }
        rows
    }
}

/// Erases every stream, and counts all events each time.
pub(crate) struct ErasesTooMuch;

impl Intercept<InMemoryEventStore> for ErasesTooMuch {
    async fn erase_stream(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
    ) -> Result<u64, StoreError> {
        let all = store.all_events();
        for event in &all {
            let _ = poll(store.erase_stream(&event.stream));
        }
        let _ = stream;
        Ok(all.len() as u64)
    }
}

/// Erases nothing.
pub(crate) struct ErasesNothing;

impl Intercept<InMemoryEventStore> for ErasesNothing {
    async fn erase_stream(&self, _: &InMemoryEventStore, _: &StreamId) -> Result<u64, StoreError> {
        Ok(0)
    }
}

/// Erasing deletes rows, the end of a closed stream included.
pub(crate) struct DeletesErased;

impl Intercept<InMemoryEventStore> for DeletesErased {
    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        with_events(rows, |mut events| {
            events.retain(|event| event.name() != ERASED);
            events
        })
    }
}

/// Does not close streams.
pub(crate) struct NeverCloses;

impl Intercept<InMemoryEventStore> for NeverCloses {
    async fn close_stream(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
        _: Version,
        id: EventId,
    ) -> Result<AppendOutcome, StoreError> {
        let event = NewEvent {
            id,
            content: EncodedMessage {
                name: "closed".into(),
                version: 1,
                codec: "".into(),
                bytes: Vec::new(),
            },
            metadata: String::new(),
        };
        let append = Append::new(stream.clone(), ExpectedVersion::Any).with_events(vec![event]);
        let partition = store.log().partition_of(stream);
        Ok(store.append_events(partition, &[append]).await?.remove(0))
    }
}

/// Closes at any version.
pub(crate) struct ClosesAnywhere;

impl Intercept<InMemoryEventStore> for ClosesAnywhere {
    async fn close_stream(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
        _: Version,
        id: EventId,
    ) -> Result<AppendOutcome, StoreError> {
        let actual = Version::new(store.events(stream).len() as u64);
        store.close_stream(stream, actual, id).await
    }
}

/// Overrides any event, but only once.
#[derive(Default)]
pub(crate) struct OverridesAnything(Mutex<BTreeMap<(StreamId, Version), EncodedMessage>>);

impl Intercept<InMemoryEventStore> for OverridesAnything {
    async fn override_event(
        &self,
        _: &InMemoryEventStore,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> Result<(), StoreError> {
        let mut replaced = self.0.lock().expect("no other task panicked");
        replaced.entry((stream.clone(), version)).or_insert_with(|| replacement.clone());
        Ok(())
    }

    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        with_events(rows, |mut events| {
            let replaced = self.0.lock().expect("no other task panicked");
            for event in &mut events {
                if let Some(content) = replaced.get(&(event.stream.clone(), event.version)) {
                    event.content = StoredContent::Present(content.clone());
                }
            }
            events
        })
    }
}

backed_by_memory!(
    ErasesTooMuch,
    ErasesNothing,
    DeletesErased,
    NeverCloses,
    ClosesAnywhere,
    OverridesAnything
);
