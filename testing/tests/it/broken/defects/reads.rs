//! Defects of reading.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use composable_rust_core::event::{StoredContent, StoredEvent};
use composable_rust_core::queue::InboxEntry;
use composable_rust_core::store::{Append, EventStore as _, Snapshot, StaleSnapshots, StoreError};
use composable_rust_core::{EventId, MessageId, Position, Receipt, StreamId, Timestamp, Version};
use composable_rust_testing::InMemoryEventStore;
use uuid::Uuid;

use super::super::store::{Defect, Outcomes, Page, poll};

/// Applies the limit to the whole page, not to each partition.
pub(crate) struct LimitsWholePages;

impl Defect for LimitsWholePages {
    async fn page(&self, store: &InMemoryEventStore, after: &[Position], limit: usize) -> Page {
        let mut page = store.read_log(after, limit).await?;
        page.truncate(limit);
        Ok(page)
    }
}

/// Includes the event at the start position in a page.
pub(crate) struct RepeatsTheLast;

impl Defect for RepeatsTheLast {
    async fn page(&self, store: &InMemoryEventStore, after: &[Position], limit: usize) -> Page {
        let earlier = |p: &Position| Position::new(p.partition, p.offset.saturating_sub(1));
        store.read_log(&after.iter().map(earlier).collect::<Vec<_>>(), limit).await
    }

    fn after(&self, after: Version) -> Version {
        Version::new(after.get().saturating_sub(1))
    }
}

/// Reads all partitions, whichever are requested.
pub(crate) struct ReadsAllPartitions;

impl Defect for ReadsAllPartitions {
    async fn page(&self, store: &InMemoryEventStore, after: &[Position], limit: usize) -> Page {
        let mut from = Position::start_positions(store.log().partitions);
        for position in after {
            from[usize::from(position.partition)] = *position;
        }
        store.read_log(&from, limit).await
    }
}

/// Returns events in the order of their ids.
pub(crate) struct SortsById;

impl Defect for SortsById {
    fn loaded(&self, mut events: Vec<StoredEvent>) -> Vec<StoredEvent> {
        events.sort_by_key(|event| std::cmp::Reverse(event.id));
        events
    }
}

/// Reads at most a thousand events of a stream.
pub(crate) struct ReadsOnePage;

impl Defect for ReadsOnePage {
    fn loaded(&self, mut events: Vec<StoredEvent>) -> Vec<StoredEvent> {
        events.truncate(1_000);
        events
    }
}

/// Leaks every connection that has loaded a stream.
#[derive(Default)]
pub(crate) struct LeaksConnections(AtomicU64);

impl Defect for LeaksConnections {
    async fn append(
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

    fn loaded(&self, events: Vec<StoredEvent>) -> Vec<StoredEvent> {
        self.0.fetch_add(1, Ordering::Relaxed);
        events
    }
}

/// Returns data for unknown streams and messages.
pub(crate) struct NeverEmpty;

impl Defect for NeverEmpty {
    fn heads(&self, mut heads: Vec<Position>) -> Vec<Position> {
        heads[0].offset += 1;
        heads
    }

    fn loaded(&self, events: Vec<StoredEvent>) -> Vec<StoredEvent> {
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
    }

    fn mark(&self, mark: Option<InboxEntry>) -> Option<InboxEntry> {
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

impl Defect for MisplacesEvents {
    fn loaded(&self, mut events: Vec<StoredEvent>) -> Vec<StoredEvent> {
        for event in &mut events {
            event.position.partition += 1;
        }
        events
    }
}

/// Keeps the last saved snapshot, shared by all fingerprints.
#[derive(Default)]
pub(crate) struct LastSnapshotWins(Mutex<BTreeMap<StreamId, Snapshot>>);

impl Defect for LastSnapshotWins {
    fn save(&self, _: &InMemoryEventStore, stream: &StreamId, snapshot: &Snapshot, _: EventId) {
        self.0.lock().expect("no other task panicked").insert(stream.clone(), snapshot.clone());
    }

    fn snapshot(&self, stream: &StreamId, _: Option<Snapshot>) -> Option<Snapshot> {
        self.0.lock().expect("no other task panicked").get(stream).cloned()
    }
}

/// Keeps no snapshots.
pub(crate) struct ForgetsSnapshots;

impl Defect for ForgetsSnapshots {
    fn save(&self, _: &InMemoryEventStore, _: &StreamId, _: &Snapshot, _: EventId) {}
}

/// Does not save snapshots.
pub(crate) struct TrustsSnapshots;

impl Defect for TrustsSnapshots {
    fn save(&self, store: &InMemoryEventStore, stream: &StreamId, snapshot: &Snapshot, _: EventId) {
        save_whatever_was_last(store, stream, snapshot);
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

impl Defect for KeepsStaleSnapshots {
    fn delete_snapshots(&self, _: &InMemoryEventStore, _: &StreamId, _: StaleSnapshots) {}
}
