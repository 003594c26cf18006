//! The store: its connections, and the port on top of them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::event::StoredEvent;
use composable_rust_core::store::{
    Append, AppendOutcome, EventStore, Fingerprint, LogInfo, Snapshot, StaleSnapshots, StoreError,
    StreamRow,
};
use composable_rust_core::{EventId, Position, StreamId, Timestamp, Version};
use futures_util::stream::Stream;
use tokio::sync::watch;

use crate::builder::SqliteEventStoreBuilder;
use crate::connection::{Readers, Watcher, Writer};
use crate::error::{ConnectError, store_error};
use crate::inbox::InboxKey;
use crate::{append, erase, load, log, snapshot};

/// An event store in one SQLite file: the embedded default.
///
/// It implements [`EventStore`]; see the crate's page for the properties of a file. Clones share
/// the connections, which close with the last of them.
///
/// # Example: an event in a file, read again after reopening
///
/// ```
/// use composable_rust_core::{EventId, StreamId, Version};
/// use composable_rust_core::codec::EncodedMessage;
/// use composable_rust_core::event::NewEvent;
/// use composable_rust_core::store::{Append, EventStore, ExpectedVersion};
/// use composable_rust_sqlite::SqliteEventStore;
/// use futures_util::TryStreamExt as _;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.db");
/// let stream: StreamId = "order-1".parse()?;
/// let placed = NewEvent {
///     id: EventId(uuid::Uuid::new_v4()),
///     content: EncodedMessage {
///         name: "order.placed".into(),
///         version: 1,
///         codec: "json".into(),
///         bytes: b"{}".to_vec(),
///     },
///     metadata: String::new(),
/// };
/// let append = Append::new(stream.clone(), ExpectedVersion::EMPTY).with_events(vec![placed]);
///
/// let store = SqliteEventStore::open(&path).await?;
/// store.append_events(store.log().partition_of(&stream), &[append]).await?;
/// drop(store);
///
/// let store = SqliteEventStore::open(&path).await?;
/// let events: Vec<_> = store.load_events(&stream, Version::ZERO).try_collect().await?;
/// assert_eq!(events[0].name(), "order.placed");
/// # Ok(())
/// # })
/// # .map_err(|e: Box<dyn std::error::Error>| e)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SqliteEventStore {
    shared: Arc<StoreInner>,
}

struct StoreInner {
    path: PathBuf,
    log: LogInfo,
    writer: Writer,
    readers: Readers,
    watcher: Watcher,
    /// Notified of every commit of this process, and every sign of one elsewhere.
    commits: watch::Sender<()>,
    /// The number of commits, here or elsewhere, that may have created work.
    work: watch::Sender<u64>,
    /// The inbox entries at which the next pruning of each partition starts.
    pruned_to: Mutex<BTreeMap<u16, InboxKey>>,
}

impl SqliteEventStore {
    /// Opens the log in the file at `path` with the defaults of [`SqliteEventStoreBuilder`],
    /// creating it if it is missing.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] names the path and says what to do. A file that is not an event log is not
    /// changed.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may leave an empty file, or a complete log without events.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, ConnectError> {
        Self::builder(path).open().await
    }

    /// Returns a builder of the log in the file at `path`.
    pub fn builder(path: impl AsRef<Path>) -> SqliteEventStoreBuilder {
        SqliteEventStoreBuilder::new(path.as_ref())
    }

    /// Returns the absolute path of the file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    pub(crate) fn new(
        path: PathBuf,
        log: LogInfo,
        writer: Writer,
        readers: Readers,
        watcher: Watcher,
    ) -> Self {
        let (commits, work) = (watch::Sender::new(()), watch::Sender::new(1));
        let pruned_to = Mutex::default();
        let shared = StoreInner { path, log, writer, readers, watcher, commits, work, pruned_to };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn log_info(&self) -> LogInfo {
        self.shared.log
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.shared.writer
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.shared.readers
    }

    pub(crate) fn watcher(&self) -> &Watcher {
        &self.shared.watcher
    }

    pub(crate) fn commits(&self) -> watch::Receiver<()> {
        self.shared.commits.subscribe()
    }

    /// Wakes the tasks that wait for events.
    pub(crate) fn wake(&self) {
        self.shared.commits.send_replace(());
    }

    pub(crate) fn work(&self) -> watch::Receiver<u64> {
        self.shared.work.subscribe()
    }

    /// Wakes the tasks that wait for work.
    pub(crate) fn has_work(&self) {
        self.shared.work.send_modify(|count| *count += 1);
    }

    pub(crate) fn pruned_to(&self, partition: u16) -> Option<InboxKey> {
        let pruned_to = self.shared.pruned_to.lock().unwrap_or_else(PoisonError::into_inner);
        pruned_to.get(&partition).cloned()
    }

    pub(crate) fn set_pruned_to(&self, partition: u16, entry: Option<InboxKey>) {
        let mut pruned_to = self.shared.pruned_to.lock().unwrap_or_else(PoisonError::into_inner);
        match entry {
            Some(entry) => pruned_to.insert(partition, entry),
            None => pruned_to.remove(&partition),
        };
    }

    /// Checks whether another process has committed, and wakes all waiting tasks if so. Retries a
    /// pending truncation.
    pub(crate) async fn poll_other_processes(&self) -> Result<(), StoreError> {
        self.writer().truncate_if_due().await.map_err(store_error)?;
        if self.watcher().has_changed().await.map_err(store_error)? {
            self.wake();
            self.has_work();
        }
        Ok(())
    }
}

impl fmt::Debug for SqliteEventStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEventStore")
            .field("path", &self.shared.path)
            .field("log", &self.shared.log)
            .finish_non_exhaustive()
    }
}

/// Returns the store's time. SQLite runs in this process, so its clock is the host's, which all
/// processes on the file share. Rows are stamped while the write lock is held.
pub(crate) fn clock() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

impl EventStore for SqliteEventStore {
    fn log(&self) -> LogInfo {
        self.shared.log
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

    fn system(&self) -> &'static str {
        "sqlite"
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(clock())
    }
}
