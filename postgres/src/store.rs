//! The event store. The port documents what its methods guarantee.

use std::fmt;
use std::sync::Arc;

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore, Fingerprint, LogInfo, PoolStatus, Snapshot, StaleSnapshots,
    StoreError, StoreVitals, StreamRow,
};
use composable_rust_core::{EventId, Position, StreamId, Timestamp, Version};
use futures_util::stream::Stream;

use crate::PostgresEventStoreBuilder;
use crate::error::ConnectError;
use crate::inbox::PruneCursors;
use crate::notify::HeadTracker;
use crate::pool::Pool;
use crate::timers::LowWater;
use crate::writers::Writers;
use crate::{append, erase, load, log, snapshot, vitals};

/// An [`EventStore`] on PostgreSQL. Cheap to clone; its background tasks and connections end with
/// the last clone.
///
/// # Example: an event that survives
///
/// ```no_run
/// # use composable_rust_core::event::NewEvent;
/// use composable_rust_core::store::{Append, EventStore, ExpectedVersion};
/// use composable_rust_postgres::PostgresEventStore;
///
/// # async fn f(event: NewEvent) -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresEventStore::connect("postgres://app@localhost/shop").await?;
/// let append = Append::new("order-17".parse()?, ExpectedVersion::EMPTY).with_events(vec![event]);
/// let partition = store.log().partition_of(&append.stream);
/// let outcomes = store.append_events(partition, &[append]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresEventStore {
    pub(crate) log: LogInfo,
    pub(crate) readers: Arc<Pool>,
    pub(crate) writers: Arc<Writers>,
    /// Connections of their own, so that no other statement delays the leases until they expire.
    pub(crate) leases: Arc<Pool>,
    pub(crate) heads: Arc<HeadTracker>,
    pub(crate) pruning: Arc<PruneCursors>,
    pub(crate) low_water: Arc<LowWater>,
}

impl PostgresEventStore {
    /// Opens the store at `url` with the defaults of [`PostgresEventStore::builder`]: the tables
    /// are created and migrated, and a new log has 8 partitions.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] says what to do in each case. Only after `Unreachable` and `ReadOnly` can a
    /// retry succeed.
    ///
    /// # Cancel safety
    ///
    /// The schema may have been migrated. A repeated call continues from there.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::builder(url).connect().await
    }

    /// Returns a builder of the store at `url` (`postgres://user:password@host:port/database`).
    pub fn builder(url: &str) -> PostgresEventStoreBuilder {
        PostgresEventStoreBuilder::new(url)
    }

    pub(crate) fn new(
        log: LogInfo,
        readers: Arc<Pool>,
        writers: Writers,
        leases: Arc<Pool>,
        heads: HeadTracker,
    ) -> Self {
        let (writers, heads) = (Arc::new(writers), Arc::new(heads));
        let pruning = Arc::new(PruneCursors::new(log));
        let low_water = Arc::default();
        Self { log, readers, writers, leases, heads, pruning, low_water }
    }
}

impl fmt::Debug for PostgresEventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresEventStore").field("log", &self.log).finish_non_exhaustive()
    }
}

impl EventStore for PostgresEventStore {
    fn log(&self) -> LogInfo {
        self.log
    }

    async fn append_events(
        &self,
        partition: u16,
        batch: &[Append],
    ) -> Result<Vec<AppendOutcome>, StoreError> {
        append::append_events(self, partition, batch).await
    }

    fn load_events<'a>(
        &'a self,
        stream: &'a StreamId,
        after: Version,
    ) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a {
        load::load_events(self, stream, after)
    }

    fn load_with_snapshot<'a>(
        &'a self,
        stream: &'a StreamId,
        fingerprint: Fingerprint,
    ) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a {
        load::load_with_snapshot(self, stream, fingerprint)
    }

    async fn read_log(
        &self,
        after: &[Position],
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        log::read_log(self, after, limit).await
    }

    async fn heads(&self) -> Result<Vec<Position>, StoreError> {
        log::heads(self).await
    }

    async fn wait_for_events(&self, after: &[Position]) -> Result<(), StoreError> {
        log::wait_for_events(self, after).await
    }

    async fn save_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        last: EventId,
    ) -> Result<(), StoreError> {
        snapshot::save_snapshot(self, stream, snapshot, last).await
    }

    async fn delete_snapshots(
        &self,
        stream: &StreamId,
        which: StaleSnapshots,
    ) -> Result<(), StoreError> {
        snapshot::delete_snapshots(self, stream, which).await
    }

    async fn load_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
    ) -> Result<Option<Snapshot>, StoreError> {
        snapshot::load_snapshot(self, stream, fingerprint).await
    }

    async fn erase_stream(&self, stream: &StreamId) -> Result<u64, StoreError> {
        erase::erase_stream(self, stream).await
    }

    async fn close_stream(
        &self,
        stream: &StreamId,
        expected: Version,
        event_id: EventId,
    ) -> Result<AppendOutcome, StoreError> {
        erase::close_stream(self, stream, expected, event_id).await
    }

    async fn override_event(
        &self,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> Result<(), StoreError> {
        erase::override_event(self, stream, version, replacement).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        log::now(self).await
    }

    fn system(&self) -> &'static str {
        "postgresql"
    }

    fn pools(&self) -> Vec<PoolStatus> {
        vec![self.readers.status("readers"), self.writers.status()]
    }

    async fn vitals(&self) -> Result<StoreVitals, StoreError> {
        vitals::vitals(self).await
    }
}
