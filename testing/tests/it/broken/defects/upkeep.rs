//! Defects of erasing, closing and overriding.

use std::collections::BTreeMap;
use std::sync::Mutex;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::ERASED;
use composable_rust_core::event::{NewEvent, StoredContent, StoredEvent};
use composable_rust_core::queue::InboxEntry;
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, ExpectedVersion, StoreError,
};
use composable_rust_core::{EventId, StreamId, Version};
use composable_rust_testing::{InMemoryEventStore, StoredOutboxRow};

use super::super::store::{Defect, poll};
use super::reads::save_whatever_was_last;

/// Erases the events of a stream, but not its other data.
pub(crate) struct ErasesOnlyEvents;

impl Defect for ErasesOnlyEvents {
    fn erase(&self, store: &InMemoryEventStore, stream: &StreamId) -> u64 {
        let snapshots = store.snapshots(stream);
        let erased = poll(store.erase_stream(stream)).expect("memory is available");
        for (_, snapshot) in snapshots {
            save_whatever_was_last(store, stream, &snapshot);
        }
        erased
    }

    fn outbox(&self, mut rows: Vec<StoredOutboxRow>) -> Vec<StoredOutboxRow> {
        for row in &mut rows {
            row.row.content.bytes = b"kept".to_vec();
        }
        rows
    }

    fn mark(&self, mark: Option<InboxEntry>) -> Option<InboxEntry> {
        mark.map(|mark| InboxEntry { outcome: b"kept".to_vec(), ..mark })
    }
}

/// Erases every stream, and counts all events each time.
pub(crate) struct ErasesTooMuch;

impl Defect for ErasesTooMuch {
    fn erase(&self, store: &InMemoryEventStore, stream: &StreamId) -> u64 {
        let all = store.all_events();
        for event in &all {
            let _ = poll(store.erase_stream(&event.stream));
        }
        let _ = stream;
        all.len() as u64
    }
}

/// Erases nothing.
pub(crate) struct ErasesNothing;

impl Defect for ErasesNothing {
    fn erase(&self, _: &InMemoryEventStore, _: &StreamId) -> u64 {
        0
    }
}

/// Erasing deletes rows, the end of a closed stream included.
pub(crate) struct DeletesErased;

impl Defect for DeletesErased {
    fn loaded(&self, mut events: Vec<StoredEvent>) -> Vec<StoredEvent> {
        events.retain(|event| event.name() != ERASED);
        events
    }
}

/// Does not close streams.
pub(crate) struct NeverCloses;

impl Defect for NeverCloses {
    fn close(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
        _: Version,
        id: EventId,
    ) -> AppendOutcome {
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
        poll(store.append_events(partition, &[append])).expect("the append is valid").remove(0)
    }
}

/// Closes at any version.
pub(crate) struct ClosesAnywhere;

impl Defect for ClosesAnywhere {
    fn close(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
        _: Version,
        id: EventId,
    ) -> AppendOutcome {
        let actual = Version::new(store.events(stream).len() as u64);
        poll(store.close_stream(stream, actual, id)).expect("memory is available")
    }
}

/// Overrides any event, but only once.
#[derive(Default)]
pub(crate) struct OverridesAnything(Mutex<BTreeMap<(StreamId, Version), EncodedMessage>>);

impl Defect for OverridesAnything {
    fn replace(
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

    fn loaded(&self, mut events: Vec<StoredEvent>) -> Vec<StoredEvent> {
        let replaced = self.0.lock().expect("no other task panicked");
        for event in &mut events {
            if let Some(content) = replaced.get(&(event.stream.clone(), event.version)) {
                event.content = StoredContent::Present(content.clone());
            }
        }
        events
    }
}
