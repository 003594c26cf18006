//! The store under test, with helpers for the cases.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{Inbox as _, InboxEntry};
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore as _, Fingerprint, LogInfo, SharedEventStore, Snapshot,
    StaleSnapshots, StoreError, StreamRow,
};
use composable_rust_core::{EventId, MessageId, Position, StreamId, Version};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use super::StoreBackend;
use super::backend::DynBackend;
use crate::{StoredOutboxRow, StoredTimer};

/// The store under test. Cheap to clone.
#[derive(Clone)]
pub struct StoreUnderTest {
    backend: Arc<dyn DynBackend>,
    pub(super) store: SharedEventStore,
}

impl fmt::Debug for StoreUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreUnderTest").field("log", &self.log()).finish_non_exhaustive()
    }
}

impl StoreUnderTest {
    pub(super) fn new(backend: impl StoreBackend) -> Self {
        let backend: Arc<dyn DynBackend> = Arc::new(backend);
        Self { store: backend.store(), backend }
    }

    /// Opens the same log as another process does.
    pub(super) async fn another_process(&self) -> Self {
        Self { backend: Arc::clone(&self.backend), store: self.backend.open_again().await }
    }

    pub(super) fn log(&self) -> LogInfo {
        self.store.log()
    }

    pub(super) fn partitions(&self) -> u16 {
        self.log().partitions
    }

    /// `count` streams of one partition, of `category`.
    pub(super) fn streams_of(&self, partition: u16, category: &str, count: usize) -> Vec<StreamId> {
        let names = (0..).map(|n| super::builders::stream(&format!("{category}-{n}")));
        names.filter(|s| self.log().partition_of(s) == partition).take(count).collect()
    }

    pub(super) async fn try_append(&self, append: &Append) -> Result<AppendOutcome, StoreError> {
        let partition = self.log().partition_of(&append.stream);
        let mut outcomes =
            self.store.append_events(partition, std::slice::from_ref(append)).await?;
        assert_eq!(outcomes.len(), 1, "one outcome for one append");
        Ok(outcomes.remove(0))
    }

    pub(super) async fn append(&self, append: &Append) -> AppendOutcome {
        self.try_append(append).await.expect("the append is valid and the store available")
    }

    /// Commits one append, and returns the version and position after it.
    pub(super) async fn commit(&self, append: &Append) -> (Version, Option<Position>) {
        committed(&self.append(append).await)
    }

    /// Appends a batch to one partition.
    pub(super) async fn batch(&self, partition: u16, batch: &[Append]) -> Vec<AppendOutcome> {
        let outcomes = self.store.append_events(partition, batch).await;
        let outcomes = outcomes.expect("the batch is valid and the store available");
        assert_eq!(outcomes.len(), batch.len(), "one outcome for each append of a batch");
        outcomes
    }

    /// Appends an append that must be rejected as invalid, and leave nothing behind.
    pub(super) async fn refuse(&self, append: &Append, why: &str) {
        let before = (self.heads().await, self.events(&append.stream).await);
        match self.try_append(append).await {
            Err(StoreError::Invalid(_)) => {}
            other => panic!("{why} must be rejected as invalid, not answered {other:?}"),
        }
        let after = (self.heads().await, self.events(&append.stream).await);
        assert_eq!(before, after, "{why} was refused and must leave nothing behind");
    }

    pub(super) async fn events(&self, stream: &StreamId) -> Vec<StoredEvent> {
        self.events_after(stream, Version::ZERO).await
    }

    pub(super) async fn events_after(&self, stream: &StreamId, after: Version) -> Vec<StoredEvent> {
        self.store.load_events(stream, after).try_collect().await.expect("the stream loads")
    }

    /// Loads a stream with its snapshot. Returns the snapshot, and the versions of the events after
    /// it.
    pub(super) async fn load(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
    ) -> (Option<Snapshot>, Vec<StoredEvent>) {
        let rows: Vec<StreamRow> = self
            .store
            .load_with_snapshot(stream, fingerprint)
            .try_collect()
            .await
            .expect("the stream loads");
        let (mut snapshot, mut events) = (None, Vec::new());
        for (n, row) in rows.into_iter().enumerate() {
            match row {
                StreamRow::Snapshot(found) => {
                    assert_eq!(n, 0, "a snapshot comes at most once, and first");
                    snapshot = Some(found);
                }
                StreamRow::Event(event) => events.push(event),
            }
        }
        (snapshot, events)
    }

    pub(super) async fn snapshot(&self, stream: &StreamId, of: Fingerprint) -> Option<Snapshot> {
        self.store.load_snapshot(stream, of).await.expect("the snapshot loads")
    }

    /// Saves a snapshot of the stream's last event, or of a missing event if the stream is too
    /// short.
    pub(super) async fn save(&self, stream: &StreamId, snapshot: &Snapshot) {
        let events = self.events(stream).await;
        let last = events.iter().find(|event| event.version == snapshot.version);
        self.save_after(stream, snapshot, last.map_or(EventId(Uuid::nil()), |last| last.id)).await;
    }

    pub(super) async fn save_after(&self, stream: &StreamId, snapshot: &Snapshot, last: EventId) {
        self.store.save_snapshot(stream, snapshot, last).await.expect("the snapshot is saved");
    }

    pub(super) async fn delete_snapshots(&self, stream: &StreamId, which: StaleSnapshots) {
        let deleted = self.store.delete_snapshots(stream, which).await;
        deleted.expect("the snapshots are deleted");
    }

    pub(super) async fn inbox_entry(
        &self,
        stream: &StreamId,
        message: MessageId,
    ) -> Option<InboxEntry> {
        self.store.load_inbox_entry(stream, message).await.expect("the inbox entry loads")
    }

    pub(super) async fn heads(&self) -> Vec<Position> {
        self.store.heads().await.expect("the heads are read")
    }

    pub(super) async fn page(&self, after: &[Position], limit: usize) -> Vec<StoredEvent> {
        self.store.read_log(after, limit).await.expect("the page is read")
    }

    /// The whole log of one partition, read page by page. Offsets must be consecutive from 1.
    pub(super) async fn partition(&self, partition: u16) -> Vec<StoredEvent> {
        let mut all: Vec<StoredEvent> = Vec::new();
        loop {
            let after = Position::new(partition, all.len() as u64);
            let page = self.page(&[after], 100).await;
            if page.is_empty() {
                return all;
            }
            for event in page {
                let expected = Position::new(partition, all.len() as u64 + 1);
                assert_eq!(event.position, expected, "offsets are 1, 2, 3 … without a gap");
                all.push(event);
            }
        }
    }

    /// The whole log, partition after partition.
    pub(super) async fn whole_log(&self) -> Vec<StoredEvent> {
        let mut all = Vec::new();
        for partition in 0..self.partitions() {
            all.extend(self.partition(partition).await);
        }
        all
    }

    pub(super) async fn outbox(&self) -> Option<Vec<StoredOutboxRow>> {
        self.backend.outbox().await
    }

    pub(super) async fn timers(&self) -> Option<Vec<StoredTimer>> {
        self.backend.timers().await
    }

    pub(super) async fn foreign_rollback(&self) {
        self.backend.foreign_rollback().await;
    }

    pub(super) fn waits_for_foreign_writers(&self) -> bool {
        self.backend.waits_for_foreign_writers()
    }

    pub(super) async fn hold_foreign_transaction(&self, duration: Duration) -> bool {
        self.backend.hold_foreign_transaction(duration).await
    }

    pub(super) async fn idle_snapshot(&self) -> Box<dyn Any + Send> {
        self.backend.idle_snapshot().await
    }

    pub(super) async fn dead_rows(&self) -> Option<u64> {
        self.backend.dead_rows().await
    }
}

/// The version and position of an outcome that must be `Committed`.
#[track_caller]
pub(super) fn committed(outcome: &AppendOutcome) -> (Version, Option<Position>) {
    match outcome {
        AppendOutcome::Committed { version, position, .. } => (*version, *position),
        other => panic!("expected Committed, got {other:?}"),
    }
}

/// The form of a `Committed` outcome once the stream has moved on to `actual`.
#[track_caller]
pub(super) fn moved_on(outcome: &AppendOutcome, actual: u64) -> AppendOutcome {
    let (version, position) = committed(outcome);
    AppendOutcome::Committed { version, position, actual: Version::new(actual) }
}

/// The inbox entries of an outcome that must be `Duplicate`, in order of message ids.
#[track_caller]
pub(super) fn duplicates(outcome: AppendOutcome) -> Vec<InboxEntry> {
    match outcome {
        AppendOutcome::Duplicate(mut entries) => {
            entries.sort_by_key(|entry| entry.message_id);
            entries
        }
        other => panic!("expected Duplicate, got {other:?}"),
    }
}
