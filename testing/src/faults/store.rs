//! An event store with injected faults.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::environment::Clock;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore, Fingerprint, LogInfo, Snapshot, StaleSnapshots, StoreError,
    StreamRow,
};
use composable_rust_core::{EventId, Position, StreamId, Timestamp, Version};
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::plan::{Call, Plan, injected};
use super::{Chances, Fault, FaultCounts};

/// An event store with injected faults, by a script or by seeded chance.
///
/// Scripts come first, one entry for each call, in order; then chance, if any. Three kinds of calls
/// have faults: appends (`append_events`), reads (loads, pages of the log, heads, snapshots, inbox
/// entries, and the reads of the queues) and writes (the changes of the queues, leases, checkpoints
/// and the inbox). All other calls are passed on. Clones share scripts, chance and counts.
///
/// # Example: an answer that is lost
///
/// ```
/// use composable_rust_core::StreamId;
/// use composable_rust_core::store::{Append, EventStore, ExpectedVersion, StoreError};
/// use composable_rust_testing::{Fault, FaultyEventStore, InMemoryEventStore};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let store = FaultyEventStore::new(InMemoryEventStore::new());
/// store.next_appends([Fault::FailAfter]);
///
/// let stream: StreamId = "order-1".parse()?;
/// let partition = store.log().partition_of(&stream);
/// let append = [Append::new(stream, ExpectedVersion::EMPTY)];
/// let lost = store.append_events(partition, &append).await;
/// assert!(matches!(lost, Err(StoreError::Unavailable(_))));
/// assert!(store.append_events(partition, &append).await.is_ok());
/// assert_eq!((store.counts().appends, store.counts().failed_after), (2, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FaultyEventStore<S> {
    store: S,
    plan: Arc<Mutex<Plan>>,
}

impl<S> FaultyEventStore<S> {
    /// Creates a store that passes all calls on until a fault is planned.
    pub fn new(store: S) -> Self {
        Self { store, plan: Arc::default() }
    }

    /// Adds faults by chance, of appends, reads and writes alike. The same calls in the same order
    /// meet the same faults.
    #[must_use]
    pub fn with_chances(self, seed: u64, chances: Chances) -> Self {
        self.plan().chance = Some((StdRng::seed_from_u64(seed), chances));
        self
    }

    /// Sets the clock by which delayed calls wait, instead of tokio's.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock) -> Self {
        self.plan().clock = Some(Arc::new(clock));
        self
    }

    /// Adds faults of the next appends to the script.
    pub fn next_appends(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().appends.extend(faults);
    }

    /// Adds faults of the next reads to the script.
    pub fn next_reads(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().reads.extend(faults);
    }

    /// Adds faults of the next writes to the script.
    pub fn next_writes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().writes.extend(faults);
    }

    /// Ends all faults: scripts and chance.
    pub fn recover(&self) {
        let mut plan = self.plan();
        plan.appends.clear();
        plan.reads.clear();
        plan.writes.clear();
        plan.chance = None;
    }

    /// Returns the numbers of calls and faults.
    pub fn counts(&self) -> FaultCounts {
        self.plan().counts
    }

    /// Returns the store behind this one.
    pub fn inner(&self) -> &S {
        &self.store
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws the fault of a call; fails or waits if the fault comes before the call.
    async fn strike(&self, call: Call) -> Result<Fault, StoreError> {
        let (fault, clock) = {
            let mut plan = self.plan();
            (plan.next(call), plan.clock.clone())
        };
        match (fault, clock) {
            (Fault::FailBefore, _) => return Err(injected("before")),
            (Fault::Delay(duration), Some(clock)) => clock.sleep(duration).await,
            (Fault::Delay(duration), None) => tokio::time::sleep(duration).await,
            _ => {}
        }
        Ok(fault)
    }

    pub(super) async fn read<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.struck(Call::Read, read).await
    }

    pub(super) async fn write<T>(
        &self,
        write: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.struck(Call::Write, write).await
    }

    async fn struck<T>(
        &self,
        call: Call,
        done: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let fault = self.strike(call).await?;
        let answer = done.await?;
        if fault == Fault::FailAfter { Err(injected("after")) } else { Ok(answer) }
    }

    fn read_rows<'a, T: Send + 'a, R>(
        &'a self,
        rows: impl FnOnce() -> R + Send + 'a,
    ) -> impl Stream<Item = Result<T, StoreError>> + Send + 'a
    where
        R: Stream<Item = Result<T, StoreError>> + Send + 'a,
        S: Sync,
    {
        let rows = async move {
            let fault = self.strike(Call::Read).await?;
            let lost = (fault == Fault::FailAfter).then(|| Err(injected("after")));
            Ok(rows().chain(stream::iter(lost)))
        };
        stream::once(rows).try_flatten()
    }
}

impl<S: fmt::Debug> fmt::Debug for FaultyEventStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyEventStore")
            .field("store", &self.store)
            .field("plan", &*self.plan())
            .finish()
    }
}

impl<S: EventStore> EventStore for FaultyEventStore<S> {
    fn log(&self) -> LogInfo {
        self.store.log()
    }

    async fn append_events(
        &self,
        partition: u16,
        batch: &[Append],
    ) -> Result<Vec<AppendOutcome>, StoreError> {
        match self.strike(Call::Append).await? {
            Fault::Conflict => {
                let mut verdicts = Vec::with_capacity(batch.len());
                for append in batch {
                    let events = self.store.load_events(&append.stream, Version::ZERO);
                    let last = events.try_fold(Version::ZERO, async |_, event| Ok(event.version));
                    verdicts.push(AppendOutcome::Conflict { actual: last.await? });
                }
                Ok(verdicts)
            }
            Fault::FailAfter => {
                self.store.append_events(partition, batch).await?;
                Err(injected("after"))
            }
            Fault::None | Fault::FailBefore | Fault::Delay(_) => {
                self.store.append_events(partition, batch).await
            }
        }
    }

    fn load_events<'a>(
        &'a self,
        stream: &'a StreamId,
        after: Version,
    ) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a {
        self.read_rows(move || self.store.load_events(stream, after))
    }

    fn load_with_snapshot<'a>(
        &'a self,
        stream: &'a StreamId,
        fingerprint: Fingerprint,
    ) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a {
        self.read_rows(move || self.store.load_with_snapshot(stream, fingerprint))
    }

    async fn read_log(
        &self,
        after: &[Position],
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.read(self.store.read_log(after, limit)).await
    }

    async fn heads(&self) -> Result<Vec<Position>, StoreError> {
        self.read(self.store.heads()).await
    }

    async fn wait_for_events(&self, after: &[Position]) -> Result<(), StoreError> {
        self.store.wait_for_events(after).await
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        last: EventId,
    ) -> Result<(), StoreError> {
        self.store.save_snapshot(stream, snapshot, last).await
    }

    async fn delete_snapshots(
        &self,
        stream: &StreamId,
        which: StaleSnapshots,
    ) -> Result<(), StoreError> {
        self.store.delete_snapshots(stream, which).await
    }

    async fn load_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
    ) -> Result<Option<Snapshot>, StoreError> {
        self.read(self.store.load_snapshot(stream, fingerprint)).await
    }

    async fn erase_stream(&self, stream: &StreamId) -> Result<u64, StoreError> {
        self.store.erase_stream(stream).await
    }

    async fn close_stream(
        &self,
        stream: &StreamId,
        expected: Version,
        event_id: EventId,
    ) -> Result<AppendOutcome, StoreError> {
        self.store.close_stream(stream, expected, event_id).await
    }

    async fn override_event(
        &self,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> Result<(), StoreError> {
        self.store.override_event(stream, version, replacement).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        self.store.now().await
    }
}
