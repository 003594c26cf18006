//! Defects of reading.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::queue::InboxEntry;
use composable_rust_core::store::{
    Append, EventStore as _, Fingerprint, Snapshot, StaleSnapshots, StoreError, StreamRow,
};
use composable_rust_core::{EventId, MessageId, Position, Receipt, StreamId, Timestamp, Version};
use composable_rust_testing::{InMemoryEventStore, Intercept, StoreCall, StreamRows};
use futures_util::stream::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use super::super::store::{Backing, Outcomes, Page, poll, with_events};

/// Applies the limit to the whole page, not to each partition.
pub(crate) struct LimitsWholePages;

impl Intercept<InMemoryEventStore> for LimitsWholePages {
    async fn read_log(&self, store: &InMemoryEventStore, after: &[Position], limit: usize) -> Page {
        let mut page = store.read_log(after, limit).await?;
        page.truncate(limit);
        Ok(page)
    }
}

/// Includes the event at the start position in a page.
pub(crate) struct RepeatsTheLast;

impl Intercept<InMemoryEventStore> for RepeatsTheLast {
    async fn read_log(&self, store: &InMemoryEventStore, after: &[Position], limit: usize) -> Page {
        let earlier = |p: &Position| Position::new(p.partition, p.offset.saturating_sub(1));
        store.read_log(&after.iter().map(earlier).collect::<Vec<_>>(), limit).await
    }

    fn load_events<'a>(
        &'a self,
        store: &'a InMemoryEventStore,
        stream: &'a StreamId,
        after: Version,
    ) -> StreamRows<'a> {
        let before = Version::new(after.get().saturating_sub(1));
        store.load_events(stream, before).map_ok(StreamRow::Event).boxed()
    }
}

/// Reads all partitions, whichever are requested.
pub(crate) struct ReadsAllPartitions;

impl Intercept<InMemoryEventStore> for ReadsAllPartitions {
    async fn read_log(&self, store: &InMemoryEventStore, after: &[Position], limit: usize) -> Page {
        let mut from = Position::start_positions(store.log().partitions);
        for position in after {
            from[usize::from(position.partition)] = *position;
        }
        store.read_log(&from, limit).await
    }
}

/// Returns events in the order of their ids.
pub(crate) struct SortsById;

impl Intercept<InMemoryEventStore> for SortsById {
    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        with_events(rows, |mut events| {
            events.sort_by_key(|event| std::cmp::Reverse(event.id));
            events
        })
    }
}

/// Reads at most a thousand events of a stream.
pub(crate) struct ReadsOnePage;

impl Intercept<InMemoryEventStore> for ReadsOnePage {
    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        with_events(rows, |mut events| {
            events.truncate(1_000);
            events
        })
    }
}

/// Leaks every connection that has loaded a stream.
#[derive(Default)]
pub(crate) struct LeaksConnections(AtomicU64);

impl Intercept<InMemoryEventStore> for LeaksConnections {
    async fn append_events(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> Outcomes {
        if self.0.load(Ordering::Relaxed) >= 20 {
            return Err(StoreError::unavailable("there is no connection left"));
        }
        store.append_events(partition, batch).await
    }

    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        with_events(rows, |events| {
            self.0.fetch_add(1, Ordering::Relaxed);
            events
        })
    }
}

/// Returns data for unknown streams and messages.
pub(crate) struct NeverEmpty;

impl Intercept<InMemoryEventStore> for NeverEmpty {
    fn after_heads(&self, mut heads: Vec<Position>) -> Vec<Position> {
        heads[0].offset += 1;
        heads
    }

    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        with_events(rows, |events| {
            if !events.is_empty() {
                return events;
            }
            vec![StoredEvent {
                id: EventId(Uuid::nil()),
                stream: StreamId::new("ghost", "1").expect("the name is valid"),
                version: Version::new(1),
                position: Position::new(0, 1),
                content: StoredContent::Erased,
                metadata: String::new(),
                recorded_at: Timestamp::EPOCH,
            }]
        })
    }

    fn after_load_inbox_entry(&self, mark: Option<InboxEntry>) -> Option<InboxEntry> {
        mark.or_else(|| {
            Some(InboxEntry {
                message_id: MessageId(Uuid::nil()),
                digest: 0,
                receipt: Receipt { version: Version::ZERO, position: None },
                outcome: Vec::new(),
            })
        })
    }
}

/// Returns events under the next partition.
pub(crate) struct MisplacesEvents;

impl Intercept<InMemoryEventStore> for MisplacesEvents {
    fn load<'a>(&'a self, _: StoreCall, rows: StreamRows<'a>) -> StreamRows<'a> {
        with_events(rows, |mut events| {
            for event in &mut events {
                event.position.partition += 1;
            }
            events
        })
    }
}

/// Keeps the last saved snapshot, shared by all fingerprints.
#[derive(Default)]
pub(crate) struct LastSnapshotWins(Mutex<BTreeMap<StreamId, Snapshot>>);

impl Intercept<InMemoryEventStore> for LastSnapshotWins {
    async fn save_snapshot(
        &self,
        _: &InMemoryEventStore,
        stream: &StreamId,
        snapshot: &Snapshot,
        _: EventId,
    ) -> Result<(), StoreError> {
        self.0.lock().expect("no other task panicked").insert(stream.clone(), snapshot.clone());
        Ok(())
    }

    async fn load_snapshot(
        &self,
        _: &InMemoryEventStore,
        stream: &StreamId,
        _: Fingerprint,
    ) -> Result<Option<Snapshot>, StoreError> {
        Ok(self.0.lock().expect("no other task panicked").get(stream).cloned())
    }
}

/// Keeps no snapshots.
pub(crate) struct ForgetsSnapshots;

impl Intercept<InMemoryEventStore> for ForgetsSnapshots {
    async fn save_snapshot(
        &self,
        _: &InMemoryEventStore,
        _: &StreamId,
        _: &Snapshot,
        _: EventId,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Does not save snapshots.
pub(crate) struct TrustsSnapshots;

impl Intercept<InMemoryEventStore> for TrustsSnapshots {
    async fn save_snapshot(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
        snapshot: &Snapshot,
        _: EventId,
    ) -> Result<(), StoreError> {
        save_whatever_was_last(store, stream, snapshot);
        Ok(())
    }
}

/// Does not check the event of a snapshot.
pub(super) fn save_whatever_was_last(
    store: &InMemoryEventStore,
    stream: &StreamId,
    snapshot: &Snapshot,
) {
    let events = store.events(stream);
    if let Some(last) = events.iter().find(|event| event.version == snapshot.version) {
        let _ = poll(store.save_snapshot(stream, snapshot, last.id));
    }
}

/// Deletes no stale snapshots.
pub(crate) struct KeepsStaleSnapshots;

impl Intercept<InMemoryEventStore> for KeepsStaleSnapshots {
    async fn delete_snapshots(
        &self,
        _: &InMemoryEventStore,
        _: &StreamId,
        _: StaleSnapshots,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

backed_by_memory!(
    LimitsWholePages,
    RepeatsTheLast,
    ReadsAllPartitions,
    SortsById,
    ReadsOnePage,
    LeaksConnections,
    NeverEmpty,
    MisplacesEvents,
    LastSnapshotWins,
    ForgetsSnapshots,
    TrustsSnapshots,
    KeepsStaleSnapshots
);
