//! The in-memory store, with a defect between it and the suite.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{
    Checkpoint, CheckpointAdvance, Checkpoints as _, DeadLetter, DeadLetterDecision,
    DeadLetters as _, DueTimers, Inbox as _, InboxEntry, Lease, LeaseRequest, LeaseSnapshot,
    Leases as _, Outbox as _, OutboxMessage, OutboxRow, QueuePosition, QueueSummary, Settlement,
    TimerQueue, TimerSettlement, Timers as _,
};
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore, Fingerprint, LogInfo, Snapshot, StaleSnapshots, StoreError,
    StreamRow,
};
use composable_rust_core::{EventId, Position, StreamId, Timestamp, Version};
use composable_rust_runtime::environment::SystemClock;
use composable_rust_testing::conformance::StoreBackend;
use composable_rust_testing::{InMemoryEventStore, StoredOutboxRow, StoredTimer};
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};

pub(crate) type Outcomes = Result<Vec<AppendOutcome>, StoreError>;
pub(crate) type Page = Result<Vec<StoredEvent>, StoreError>;

/// A defect. Each method forwards to the store unless the defect is in it.
pub(crate) trait Defect: Send + Sync + 'static {
    fn append(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        batch: &[Append],
    ) -> impl Future<Output = Outcomes> + Send {
        store.append_events(partition, batch)
    }

    fn page(
        &self,
        store: &InMemoryEventStore,
        after: &[Position],
        limit: usize,
    ) -> impl Future<Output = Page> + Send {
        store.read_log(after, limit)
    }

    fn heads(&self, heads: Vec<Position>) -> Vec<Position> {
        heads
    }

    /// The events of a load.
    fn loaded(&self, events: Vec<StoredEvent>) -> Vec<StoredEvent> {
        events
    }

    fn after(&self, after: Version) -> Version {
        after
    }

    fn wait(
        &self,
        store: &InMemoryEventStore,
        after: &[Position],
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        store.wait_for_events(after)
    }

    fn save(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
        snapshot: &Snapshot,
        last: EventId,
    ) {
        let _ = poll(store.save_snapshot(stream, snapshot, last));
    }

    fn delete_snapshots(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
        which: StaleSnapshots,
    ) {
        let _ = poll(store.delete_snapshots(stream, which));
    }

    fn snapshot(&self, _stream: &StreamId, snapshot: Option<Snapshot>) -> Option<Snapshot> {
        snapshot
    }

    fn mark(&self, mark: Option<InboxEntry>) -> Option<InboxEntry> {
        mark
    }

    fn erase(&self, store: &InMemoryEventStore, stream: &StreamId) -> u64 {
        poll(store.erase_stream(stream)).expect("memory is available")
    }

    fn close(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
        expected: Version,
        id: EventId,
    ) -> AppendOutcome {
        poll(store.close_stream(stream, expected, id)).expect("memory is available")
    }

    fn replace(
        &self,
        store: &InMemoryEventStore,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> Result<(), StoreError> {
        poll(store.override_event(stream, version, replacement))
    }

    /// The store that another process opens.
    fn elsewhere(&self, store: &InMemoryEventStore) -> InMemoryEventStore {
        store.clone()
    }

    /// Holds a foreign transaction open for a while.
    fn hold(&self) -> impl Future<Output = bool> + Send {
        async { false }
    }

    fn dead_rows(&self, _store: &InMemoryEventStore) -> Option<u64> {
        None
    }

    fn outbox(&self, rows: Vec<StoredOutboxRow>) -> Vec<StoredOutboxRow> {
        rows
    }

    fn timers(&self, timers: Vec<StoredTimer>) -> Vec<StoredTimer> {
        timers
    }

    fn leases(&self, table: LeaseSnapshot) -> LeaseSnapshot {
        table
    }

    fn change_leases(&self, store: &InMemoryEventStore, round: &LeaseRequest) -> Vec<bool> {
        poll(store.change_leases(round)).expect("memory is available")
    }

    fn checkpoints(&self, checkpoints: Vec<Checkpoint>) -> Vec<Checkpoint> {
        checkpoints
    }

    fn keep_checkpoints(
        &self,
        store: &InMemoryEventStore,
        name: &str,
        to: &[Checkpoint],
    ) -> Result<(), StoreError> {
        poll(store.save_checkpoints(name, to))
    }

    fn rewind(
        &self,
        store: &InMemoryEventStore,
        worker: &str,
        to: Checkpoint,
    ) -> Result<(), StoreError> {
        poll(store.rewind(worker, to))
    }

    fn park(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> Result<(), StoreError> {
        poll(store.park(partition, rows, error))
    }

    fn enqueue(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> Result<bool, StoreError> {
        poll(store.enqueue(partition, rows, advance))
    }

    /// The rows of a read of the outbox.
    fn rows(&self, rows: Vec<OutboxRow>, _limit: usize) -> Vec<OutboxRow> {
        rows
    }

    fn summaries(&self, summaries: Vec<QueueSummary>) -> Vec<QueueSummary> {
        summaries
    }

    fn last_places(&self, places: Vec<QueuePosition>) -> Vec<QueuePosition> {
        places
    }

    fn counts(&self, counts: Vec<usize>) -> Vec<usize> {
        counts
    }

    fn senders(&self, streams: Vec<StreamId>) -> Vec<StreamId> {
        streams
    }

    fn settle(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        settlements: &[Settlement],
    ) -> Result<Vec<bool>, StoreError> {
        poll(store.settle(partition, settlements))
    }

    fn due(&self, store: &InMemoryEventStore, queues: &[TimerQueue], limit: usize) -> DueTimers {
        poll(store.due_timers(queues, limit)).expect("memory is available")
    }

    fn settle_timers(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> Result<(), StoreError> {
        poll(store.settle_timers(partition, settlements))
    }

    /// The dead letters of a read after a partition's.
    fn letters(&self, letters: Vec<DeadLetter>, _after: Option<u16>) -> Vec<DeadLetter> {
        letters
    }

    /// The result that an operator gets.
    fn decided(&self, _decision: DeadLetterDecision, is_kept: bool) -> bool {
        is_kept
    }

    fn resolve(
        &self,
        store: &InMemoryEventStore,
        lease: &Lease,
        letter: &DeadLetter,
        answers: &[OutboxMessage],
    ) -> bool {
        poll(store.resolve_dead_letter(lease, letter, answers)).expect("memory is available")
    }

    fn prune(
        &self,
        store: &InMemoryEventStore,
        partition: u16,
        age: Duration,
        limit: usize,
    ) -> u64 {
        poll(store.prune_inbox(partition, age, limit)).expect("memory is available")
    }

    fn work(
        &self,
        store: &InMemoryEventStore,
        seen: u64,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send {
        store.wait_for_work(seen)
    }
}

/// Returns the value of a future of the in-memory store, which never waits.
pub(crate) fn poll<T>(future: impl Future<Output = T>) -> T {
    futures_util::FutureExt::now_or_never(future).expect("memory answers at once")
}

#[derive(Clone)]
pub(crate) struct Broken<D> {
    pub(crate) store: InMemoryEventStore,
    pub(crate) defect: Arc<D>,
}

impl<D: Defect> Broken<D> {
    pub(crate) fn new(defect: D, partitions: u16) -> Self {
        let store = InMemoryEventStore::with_partitions(partitions).with_clock(SystemClock);
        Self { store, defect: Arc::new(defect) }
    }
}

impl<D: Defect> StoreBackend for Broken<D> {
    type Store = Self;

    fn store(&self) -> Self {
        Self { store: self.store.clone(), defect: Arc::clone(&self.defect) }
    }

    async fn open_again(&self) -> Self {
        Self { store: self.defect.elsewhere(&self.store), defect: Arc::clone(&self.defect) }
    }

    async fn hold_foreign_transaction(&self, _: Duration) -> bool {
        self.defect.hold().await
    }

    async fn dead_rows(&self) -> Option<u64> {
        self.defect.dead_rows(&self.store)
    }

    async fn outbox(&self) -> Option<Vec<StoredOutboxRow>> {
        Some(self.defect.outbox(self.store.outbox()))
    }

    async fn timers(&self) -> Option<Vec<StoredTimer>> {
        Some(self.defect.timers(self.store.timers()))
    }
}

impl<D: Defect> EventStore for Broken<D> {
    fn log(&self) -> LogInfo {
        self.store.log()
    }

    async fn append_events(&self, partition: u16, batch: &[Append]) -> Outcomes {
        // Lets the test stop a case that a defect makes retry forever.
        tokio::task::yield_now().await;
        self.defect.append(&self.store, partition, batch).await
    }

    fn load_events<'a>(
        &'a self,
        stream: &'a StreamId,
        after: Version,
    ) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a {
        let events = async move {
            tokio::task::yield_now().await;
            let events = self.store.load_events(stream, self.defect.after(after));
            let events = self.defect.loaded(events.try_collect().await?);
            Ok(stream::iter(events.into_iter().map(Ok)))
        };
        stream::once(events).try_flatten()
    }

    fn load_with_snapshot<'a>(
        &'a self,
        stream: &'a StreamId,
        fingerprint: Fingerprint,
    ) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a {
        let rows = async move {
            let snapshot = self.load_snapshot(stream, fingerprint).await?;
            let after = snapshot.as_ref().map_or(Version::ZERO, |snapshot| snapshot.version);
            let events = self.load_events(stream, after).map_ok(StreamRow::Event);
            let snapshot = snapshot.map(StreamRow::Snapshot).map(Ok);
            let rows: Vec<_> = stream::iter(snapshot).chain(events).collect().await;
            Ok(stream::iter(rows))
        };
        stream::once(rows).try_flatten()
    }

    async fn read_log(&self, after: &[Position], limit: usize) -> Page {
        tokio::task::yield_now().await;
        self.defect.page(&self.store, after, limit).await
    }

    async fn heads(&self) -> Result<Vec<Position>, StoreError> {
        Ok(self.defect.heads(self.store.heads().await?))
    }

    async fn wait_for_events(&self, after: &[Position]) -> Result<(), StoreError> {
        self.defect.wait(&self.store, after).await
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        last: EventId,
    ) -> Result<(), StoreError> {
        self.defect.save(&self.store, stream, snapshot, last);
        Ok(())
    }

    async fn delete_snapshots(
        &self,
        stream: &StreamId,
        which: StaleSnapshots,
    ) -> Result<(), StoreError> {
        self.defect.delete_snapshots(&self.store, stream, which);
        Ok(())
    }

    async fn load_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
    ) -> Result<Option<Snapshot>, StoreError> {
        let snapshot = self.store.load_snapshot(stream, fingerprint).await?;
        Ok(self.defect.snapshot(stream, snapshot))
    }

    async fn erase_stream(&self, stream: &StreamId) -> Result<u64, StoreError> {
        Ok(self.defect.erase(&self.store, stream))
    }

    async fn close_stream(
        &self,
        stream: &StreamId,
        expected: Version,
        event_id: EventId,
    ) -> Result<AppendOutcome, StoreError> {
        Ok(self.defect.close(&self.store, stream, expected, event_id))
    }

    async fn override_event(
        &self,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> Result<(), StoreError> {
        self.defect.replace(&self.store, stream, version, replacement)
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.store.now().await
    }
}
