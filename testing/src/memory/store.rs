//! The store: shared data behind a lock, and the port on top of it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::environment::Clock;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore, Fingerprint, LogInfo, Presence, Snapshot, StaleSnapshots,
    StoreError, StreamRow, validate_batch,
};
use composable_rust_core::{EventId, Position, StreamId, Timestamp, Version};
use futures_util::stream::{self, Stream, StreamExt as _};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::leases::Attendance;
use super::state::{State, Time, secret_of};

/// An event store in memory, for tests: the reference implementation of [`EventStore`], whose data
/// can be inspected.
///
/// It reads no clock but the one given by [`with_clock`](Self::with_clock); until then its time
/// stands still, at 2025-01-01T00:00:00Z. Its only randomness comes from a seed, by which a page of
/// the log mixes the partitions, so that no test relies on an order between them. Clones share the
/// data. An append commits when its future is first polled.
///
/// # Example: looking at what was written
///
/// ```
/// use composable_rust_core::{EventId, StreamId};
/// use composable_rust_core::codec::EncodedMessage;
/// use composable_rust_core::environment::Clock;
/// use composable_rust_core::event::NewEvent;
/// use composable_rust_core::store::{Append, EventStore, ExpectedVersion};
/// use composable_rust_testing::InMemoryEventStore;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = InMemoryEventStore::new();
/// let stream: StreamId = "order-1".parse()?;
/// let placed = NewEvent {
///     id: EventId(uuid::Uuid::from_u128(1)),
///     content: EncodedMessage {
///         name: "order.placed".into(),
///         version: 1,
///         codec: "json".into(),
///         bytes: b"{}".to_vec(),
///     },
///     metadata: String::new(),
/// };
/// let append = Append::new(stream.clone(), ExpectedVersion::EMPTY).with_events(vec![placed]);
/// store.append_events(store.log().partition_of(&stream), &[append]).await?;
///
/// let events = store.events(&stream);
/// assert_eq!((events.len(), events[0].name()), (1, "order.placed"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct InMemoryEventStore {
    shared: Arc<StoreInner>,
}

struct StoreInner {
    state: Mutex<State>,
    committed: Notify,
    /// The number of changes that may have created work.
    work: watch::Sender<u64>,
    /// The number of changes of leases, members, the pause or the number of overrides.
    lease_changes: watch::Sender<u64>,
}

/// The time of a new store: 2025-01-01T00:00:00Z.
const START: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);
/// The id of a log in memory, unless [`with_log_id`](InMemoryEventStore::with_log_id) sets another.
const LOG_ID: Uuid = Uuid::from_u128(0x6d65_6d6f_7279_4000_8000_0000_0000_0000);

impl InMemoryEventStore {
    /// Creates an empty store with three log partitions.
    ///
    /// All stores have the same log id. Those of services that share a bus need [different
    /// ones](Self::with_log_id); otherwise each service takes the others' messages for its own.
    pub fn new() -> Self {
        Self::with_partitions(3)
    }

    /// Creates an empty store with `count` log partitions.
    ///
    /// # Panics
    ///
    /// Panics if `count` is 0.
    pub fn with_partitions(count: u16) -> Self {
        assert!(count > 0, "a log has at least one partition");
        let state = Mutex::new(State::new(LOG_ID, count, START));
        let (work, lease_changes) = (watch::Sender::new(1), watch::Sender::new(1));
        let committed = Notify::new();
        Self { shared: Arc::new(StoreInner { state, committed, work, lease_changes }) }
    }

    /// Sets the log's id, from which derived ids and the log's secret follow.
    #[must_use]
    pub fn with_log_id(self, id: Uuid) -> Self {
        let mut state = self.locked();
        (state.log.id, state.log.secret) = (id, secret_of(id));
        drop(state);
        self
    }

    /// Sets the seed of the order in which pages mix the partitions.
    #[must_use]
    pub fn with_seed(self, seed: u64) -> Self {
        self.locked().rng = StdRng::seed_from_u64(seed);
        self
    }

    /// Sets the store's clock, instead of a time that stands still.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.locked().time = Time::Clock(Arc::new(clock));
        self
    }

    /// Sets the store's time, which stands still from then on.
    pub fn set_now(&self, now: Timestamp) {
        self.locked().time = Time::Still(now);
        self.has_work();
        self.leases_changed();
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the data, and wakes the tasks that wait for events.
    fn commit<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.locked());
        self.shared.committed.notify_waiters();
        result
    }

    /// Wakes the tasks that wait for work.
    pub(super) fn has_work(&self) {
        self.shared.work.send_modify(|count| *count += 1);
    }

    /// Waits until the number of changes that created work differs from `seen`. Returns the number.
    pub(super) async fn work_since(&self, seen: u64) -> u64 {
        count_since(&self.shared.work, seen).await
    }

    /// Wakes the processes whose leases may have to change.
    pub(super) fn leases_changed(&self) {
        self.shared.lease_changes.send_modify(|count| *count += 1);
    }

    /// Waits until the number of changes of leases differs from `seen`. Returns the number.
    pub(super) async fn lease_changes_since(&self, seen: u64) -> u64 {
        count_since(&self.shared.lease_changes, seen).await
    }
}

impl Default for InMemoryEventStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for InMemoryEventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.locked();
        f.debug_struct("InMemoryEventStore")
            .field("log", &state.log)
            .field("heads", &state.heads())
            .finish_non_exhaustive()
    }
}

impl EventStore for InMemoryEventStore {
    fn log(&self) -> LogInfo {
        self.locked().log
    }

    fn attend(&self, holder: Uuid) -> Option<Box<dyn Presence>> {
        Some(Box::new(Attendance::new(self.clone(), holder)))
    }

    async fn append_events(
        &self,
        partition: u16,
        batch: &[Append],
    ) -> Result<Vec<AppendOutcome>, StoreError> {
        validate_batch(self.log(), partition, batch)?;
        let outcomes = self.commit(|state| state.append(partition, batch));
        if batch.iter().any(|append| !append.outbox.is_empty() || !append.timers.is_empty()) {
            self.has_work();
        }
        Ok(outcomes)
    }

    fn load_events<'a>(
        &'a self,
        stream: &'a StreamId,
        after: Version,
    ) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a {
        lazily(move || self.locked().events_of(stream, after))
    }

    fn load_with_snapshot<'a>(
        &'a self,
        stream: &'a StreamId,
        fingerprint: Fingerprint,
    ) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a {
        lazily(move || self.locked().load_with_snapshot(stream, fingerprint))
    }

    async fn read_log(
        &self,
        after: &[Position],
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(self.locked().read_log(after, limit))
    }

    async fn heads(&self) -> Result<Vec<Position>, StoreError> {
        Ok(self.locked().heads())
    }

    async fn wait_for_events(&self, after: &[Position]) -> Result<(), StoreError> {
        loop {
            // Created before the check, so that a commit in between is not missed.
            let committed = self.shared.committed.notified();
            if self.locked().is_past(after) {
                return Ok(());
            }
            committed.await;
        }
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        last: EventId,
    ) -> Result<(), StoreError> {
        self.locked().save_snapshot(stream, snapshot, last);
        Ok(())
    }

    async fn delete_snapshots(
        &self,
        stream: &StreamId,
        which: StaleSnapshots,
    ) -> Result<(), StoreError> {
        self.locked().delete_snapshots(stream, which);
        Ok(())
    }

    async fn load_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
    ) -> Result<Option<Snapshot>, StoreError> {
        let state = self.locked();
        Ok(state.stream(stream).and_then(|s| s.snapshots.get(&fingerprint)).cloned())
    }

    async fn erase_stream(&self, stream: &StreamId) -> Result<u64, StoreError> {
        Ok(self.commit(|state| state.erase_stream(stream)))
    }

    async fn close_stream(
        &self,
        stream: &StreamId,
        expected: Version,
        event_id: EventId,
    ) -> Result<AppendOutcome, StoreError> {
        Ok(self.commit(|state| state.close_stream(stream, expected, event_id)))
    }

    async fn override_event(
        &self,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> Result<(), StoreError> {
        replacement.validate()?;
        self.locked().override_event(stream, version, replacement)?;
        self.leases_changed();
        Ok(())
    }

    fn system(&self) -> &'static str {
        "memory"
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(self.locked().time.now())
    }
}

/// Waits until a count differs from `seen`. Returns the count.
async fn count_since(counts: &watch::Sender<u64>, seen: u64) -> u64 {
    let mut counts = counts.subscribe();
    let changed = counts.wait_for(|count| *count != seen).await;
    // The sender lives as long as the store.
    changed.map_or(seen, |count| *count)
}

/// Returns a stream that calls `rows` when it is first polled.
fn lazily<T: Send>(
    rows: impl FnOnce() -> Vec<T> + Send,
) -> impl Stream<Item = Result<T, StoreError>> + Send {
    stream::once(async move { stream::iter(rows().into_iter().map(Ok)) }).flatten()
}
