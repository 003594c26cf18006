//! The port to where events live.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::Stream;
use uuid::Uuid;

use crate::codec::EncodedMessage;
use crate::event::StoredEvent;
use crate::queue::{Checkpoints, DeadLetters, Inbox, Leases, Outbox, Timers};
use crate::store::{Append, AppendOutcome, Fingerprint, LogSecret, Snapshot};
use crate::{EventId, Position, StreamId, Timestamp, Version};

/// What is fixed when a log is created, and only read from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogInfo {
    /// Identifies the log; derived ids hold it.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: u16,
    /// The secret that authenticates what comes back from other services.
    pub secret: LogSecret,
}

impl LogInfo {
    /// Before the first event of every partition.
    pub fn start_positions(&self) -> Vec<Position> {
        Position::start_positions(self.partitions)
    }

    /// The partition of `stream`.
    pub fn partition_of(&self, stream: &StreamId) -> u16 {
        stream.partition(self.partitions)
    }
}

/// A row of a load: a state to start from, then the events after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRow {
    /// At most one, and before every event.
    Snapshot(Snapshot),
    /// In order of versions, without a gap.
    Event(StoredEvent),
}

/// Snapshots of one stream that are of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleSnapshots {
    /// Those above a version: of states that the log has lost.
    Above(Version),
    /// Those of other shapes of the state, saved at least so long ago by the store's clock: older code
    /// no longer runs, or can do without.
    Others {
        /// The fingerprint whose snapshot stays.
        than: Fingerprint,
        /// The age from which the others go.
        age: Duration,
    },
}

/// Where events live: streams of them, in a partitioned log.
///
/// Three implementations keep this contract and pass one conformance suite: PostgreSQL, SQLite,
/// and memory.
///
/// - An append is all or nothing; versions of a stream are 1, 2, 3 … without a gap.
/// - Offsets of a log partition are 1, 2, 3 … in commit order without a gap. A reader that has
///   seen an offset never later finds a new event at or below it.
/// - Events, marks, outbox rows and timers of one append commit together.
///
/// # Cancel safety
///
/// A dropped call that writes may still commit. Treat it as [`StoreError::Unavailable`].
pub trait EventStore: Leases + Checkpoints + Outbox + Timers + DeadLetters + Inbox {
    /// What is fixed about the log.
    fn log(&self) -> LogInfo;

    /// Appends a batch to one partition, in one transaction.
    ///
    /// Every append names a stream of `partition`, and no two name the same stream. The verdicts
    /// are in the order of the batch. An append that is not `Committed` leaves nothing behind and
    /// does not disturb its neighbours. The events of one append have consecutive offsets.
    ///
    /// Under the partition's lock, each append is looked at in this order:
    ///
    /// 1. If it has marks or events, all its marks stand just as it would write them (digest,
    ///    receipt and answer), and the events at `expected + 1 … expected + n` are its own (id, name,
    ///    version, codec and bytes), it was committed by an earlier call: `Committed`, with the version
    ///    and position of then, and the version at which the stream stands now. An append without marks must be `Exact` and have events to be
    ///    recognised. An erased event, and in an append with events an erased answer, are equal to
    ///    any. An override does not count: the event is compared as it was appended. Neither marks
    ///    nor ids suffice: a message that is decided again has the same ids but may lead to another
    ///    answer or other events, and the writer must not believe those.
    /// 2. If any of its marks stands: `Duplicate` with those that do.
    /// 3. If the stream ends in [`CLOSED`](crate::event::CLOSED): `Closed`.
    /// 4. If a timer that it fires is not armed so: `Void`.
    /// 5. If the stream is not at the expected version: `Conflict`.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Unavailable`]: the outcome is unknown. Send the same batch again.
    /// - [`StoreError::Invalid`]: nothing was written and nothing will be; send the appends one by
    ///   one to find the guilty one.
    fn append_events(
        &self,
        partition: u16,
        batch: &[Append],
    ) -> impl Future<Output = Result<Vec<AppendOutcome>, StoreError>> + Send;

    /// The events of `stream` after version `after`, in order. One statement may be held open while
    /// the stream is read, so read it without waiting for anything else.
    fn load_events<'a>(
        &'a self,
        stream: &'a StreamId,
        after: Version,
    ) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a;

    /// The latest snapshot of `stream` that has this fingerprint, if any, and the events after it;
    /// all events otherwise. One round trip.
    fn load_with_snapshot<'a>(
        &'a self,
        stream: &'a StreamId,
        fingerprint: Fingerprint,
    ) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a;

    /// One page of the log: of each given partition, up to `limit` events after the given offset,
    /// in order of offsets. One short statement for all of them.
    fn read_log(
        &self,
        after: &[Position],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredEvent>, StoreError>> + Send;

    /// The highest offset of every partition, in order of partitions.
    fn heads(&self) -> impl Future<Output = Result<Vec<Position>, StoreError>> + Send;

    /// Completes when there may be events after the given positions: soon after a commit in this
    /// process, within the store's polling interval after one elsewhere. It may complete early.
    fn wait_for_events(
        &self,
        after: &[Position],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Saves a snapshot of the state after event `last`. One that is not newer than what is there for
    /// its fingerprint is ignored.
    ///
    /// So is one of a version at which the stream has no event or another than `last`: a server that
    /// takes over may lack the last events of the one before, and have others by then. And so is one
    /// whose last event is erased (the event at its version, or the one before
    /// [`CLOSED`](crate::event::CLOSED)), whichever comes first: a save that was under way while the
    /// stream was erased does not bring content back.
    fn save_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        last: EventId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes snapshots of `stream` that are of no use any more.
    fn delete_snapshots(
        &self,
        stream: &StreamId,
        which: StaleSnapshots,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The latest snapshot of `stream` with this fingerprint.
    fn load_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
    ) -> impl Future<Output = Result<Option<Snapshot>, StoreError>> + Send;

    /// Overwrites payloads and metadata of every event of `stream` up to its present version with
    /// nothing, and what else is kept of it (overrides, snapshots, outbox, timers, answers).
    /// Versions and positions stay. Returns how many events were erased.
    ///
    /// If it was any, and the stream is not closed, one more event of type
    /// [`ERASED`](crate::event::ERASED) without content is appended in the same transaction, with an
    /// id of the store's choice: so followers learn of it that were past those events already, and
    /// whoever holds a state of before loses on version.
    fn erase_stream(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Ends `stream` with a [`CLOSED`](crate::event::CLOSED) event of the given id, if it is at
    /// `expected` (and not closed already, which is `Committed` as well). Its timers go.
    fn close_stream(
        &self,
        stream: &StreamId,
        expected: Version,
        event_id: EventId,
    ) -> impl Future<Output = Result<AppendOutcome, StoreError>> + Send;

    /// Stores a replacement beside the content of one event, which loads give from then on; the
    /// original stays. Snapshots at or past the event go. The way out when an event cannot be decoded
    /// or applied, or was applied wrongly.
    ///
    /// A state that was loaded before is not recalled: its owner may still save it. Evict it first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] when there is no such event or it is erased.
    fn override_event(
        &self,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The store's clock, which deadlines are set and compared by.
    fn now(&self) -> impl Future<Output = Result<Timestamp, StoreError>> + Send;
}

/// Why a store did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It will never do it. Change the request.
    #[error("the store refuses: {0}")]
    Invalid(String),
    /// It may have done it or not, and may do it later. Ask again, the same.
    #[error("the store is unavailable")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
}

impl StoreError {
    /// The store could not be reached, or its answer did not arrive.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }

    /// Whether asking again can help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
