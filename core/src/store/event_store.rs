//! The port to an event store.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::Stream;
use uuid::Uuid;

use crate::codec::EncodedMessage;
use crate::event::StoredEvent;
use crate::queue::{Checkpoints, DeadLetters, Inbox, Leases, Outbox, Timers};
use crate::store::{
    Append, AppendOutcome, Fingerprint, Inspection, LogSecret, PoolStatus, Presence, Snapshot,
    StoreVitals,
};
use crate::{EventId, Position, StreamId, Timestamp, Version};

/// The properties of a log that are fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogInfo {
    /// The id of the log; derived ids depend on it.
    pub id: Uuid,
    /// The number of partitions.
    pub partitions: u16,
    /// The secret that authenticates what other services return.
    pub secret: LogSecret,
}

impl LogInfo {
    /// Returns the positions before the first event of every partition.
    pub fn start_positions(&self) -> Vec<Position> {
        Position::start_positions(self.partitions)
    }

    /// Returns the id that a message of this log has on the bus.
    ///
    /// It is derived from the message's id here, so that a message that is published again has the
    /// same, with the secret, so that no other service can predict and use it first.
    pub fn id_on_bus(&self, message: Uuid) -> Uuid {
        let code = self.secret.code("message id", &[message.as_bytes()]);
        uuid::Builder::from_custom_bytes(code).into_uuid()
    }

    /// Returns the partition of `stream`.
    pub fn partition_of(&self, stream: &StreamId) -> u16 {
        stream.partition(self.partitions)
    }
}

/// A row of a load: at most one snapshot, then the events after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamRow {
    /// The snapshot; at most one, and before every event.
    Snapshot(Snapshot),
    /// An event. Events come in order of versions, without a gap.
    Event(StoredEvent),
}

/// A selection of snapshots of one stream that are no longer useful.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleSnapshots {
    /// The snapshots above a version: of states that the log has lost.
    Above(Version),
    /// The snapshots of other shapes of the state that are at least this old by the store's clock:
    /// older code no longer runs, or can do without them.
    Others {
        /// The fingerprint whose snapshot is kept.
        than: Fingerprint,
        /// The minimum age of deleted snapshots.
        age: Duration,
    },
}

/// An event store: streams of events, in a partitioned log.
///
/// PostgreSQL, SQLite and memory implement this contract and pass one conformance suite.
///
/// - An append is all or nothing; versions of a stream are 1, 2, 3 … without a gap.
/// - Offsets of a log partition are 1, 2, 3 … in commit order without a gap. A reader that has
///   seen an offset never later finds a new event at or below it.
/// - Events, inbox entries, outbox rows and timers of one append commit together.
///
/// # Cancel safety
///
/// A dropped call that writes may still commit. Treat it as [`StoreError::Unavailable`].
pub trait EventStore:
    Leases + Checkpoints + Outbox + Timers + DeadLetters + Inbox + Inspection
{
    /// Returns the fixed properties of the log.
    fn log(&self) -> LogInfo;

    /// Announces the process that acts as `holder` of leases to a store that notices whatever its
    /// processes do, as a store in memory does; `None` from all others, which is the default.
    ///
    /// A store that returns a presence completes
    /// [`wait_for_events`](Self::wait_for_events) and
    /// [`wait_for_work`](crate::queue::Outbox::wait_for_work) at every change by any process, so
    /// that its workers poll nothing and renew no lease.
    fn attend(&self, _holder: Uuid) -> Option<Box<dyn Presence>> {
        None
    }

    /// Appends a batch to one partition, in one transaction.
    ///
    /// Every append names a stream of `partition`, and no two name the same stream. The outcomes
    /// are in the order of the batch. An append that is not `Committed` leaves nothing behind and
    /// does not affect the others. The events of one append have consecutive offsets.
    ///
    /// Under the partition's lock, the store checks each append in this order:
    ///
    /// 1. `Committed` if an earlier call committed the append: it has inbox entries or events, all
    ///    its inbox entries are stored exactly as it would write them (digest, receipt and
    ///    outcome), and the events at `expected + 1 … expected + n` are its own (id, name, version,
    ///    codec and bytes). The outcome has the version and position of that time, and the current
    ///    version of the stream. An append without inbox entries is only recognised if it is
    ///    `Exact` and has events. An erased event, and in an append with events an erased outcome,
    ///    equals any other. An overridden event is compared as it was appended. Neither inbox
    ///    entries nor ids suffice alone: a message that is decided again has the same ids but may
    ///    lead to another outcome or other events, which the writer must not mistake for its own.
    /// 2. `Duplicate` with the stored inbox entries, if the inbox has an entry for any of its
    ///    messages.
    /// 3. `Closed` if the stream ends in [`CLOSED`](crate::event::CLOSED).
    /// 4. `StaleTimers` if a fired timer is not armed, or has another arming.
    /// 5. `Conflict` if the stream is not at the expected version.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Unavailable`]: the outcome is unknown. Repeat the call with the same batch.
    /// - [`StoreError::Invalid`]: nothing was written, and nothing will be. Send the appends one by
    ///   one to find the invalid one.
    fn append_events(
        &self,
        partition: u16,
        batch: &[Append],
    ) -> impl Future<Output = Result<Vec<AppendOutcome>, StoreError>> + Send;

    /// Returns the events of `stream` after version `after`, in order. The store may hold a
    /// statement open while the stream is read, so read it without waiting for anything else.
    fn load_events<'a>(
        &'a self,
        stream: &'a StreamId,
        after: Version,
    ) -> impl Stream<Item = Result<StoredEvent, StoreError>> + Send + 'a;

    /// Returns the latest snapshot of `stream` with this fingerprint and the events after it;
    /// without such a snapshot, all events. One round trip.
    fn load_with_snapshot<'a>(
        &'a self,
        stream: &'a StreamId,
        fingerprint: Fingerprint,
    ) -> impl Stream<Item = Result<StreamRow, StoreError>> + Send + 'a;

    /// Returns one page of the log: from each given partition, up to `limit` events after the given
    /// offset, in order of offsets. One short statement for all partitions.
    fn read_log(
        &self,
        after: &[Position],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredEvent>, StoreError>> + Send;

    /// Returns the highest offset of every partition, in order of partitions.
    fn heads(&self) -> impl Future<Output = Result<Vec<Position>, StoreError>> + Send;

    /// Completes when there may be events after the given positions: soon after a commit in this
    /// process, within the store's poll interval after a commit in another. It may complete early.
    fn wait_for_events(
        &self,
        after: &[Position],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Saves a snapshot of the state after event `last`. The store ignores a snapshot that is not
    /// newer than the stored one of the same fingerprint.
    ///
    /// The store also ignores a snapshot if the stream has no event at its version, or another than
    /// `last`: after a failover the server may lack the last events of its predecessor and have
    /// others by then. And it ignores a snapshot whose last event is erased (the event at its
    /// version, or the one before [`CLOSED`](crate::event::CLOSED)), so a save that races with an
    /// erasure does not bring content back.
    fn save_snapshot(
        &self,
        stream: &StreamId,
        snapshot: &Snapshot,
        last: EventId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes snapshots of `stream` that are no longer useful.
    fn delete_snapshots(
        &self,
        stream: &StreamId,
        which: StaleSnapshots,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the latest snapshot of `stream` with this fingerprint.
    fn load_snapshot(
        &self,
        stream: &StreamId,
        fingerprint: Fingerprint,
    ) -> impl Future<Output = Result<Option<Snapshot>, StoreError>> + Send;

    /// Erases the content of every event of `stream` up to its current version: overwrites payloads
    /// and metadata with nothing, and deletes overrides, snapshots, outbox rows, timers and
    /// outcomes. Versions and positions stay. Returns the number of erased events.
    ///
    /// If that is not zero and the stream is not closed, the same transaction appends one event of
    /// type [`ERASED`](crate::event::ERASED) without content, with an id of the store's choice.
    /// Followers that are already past the erased events learn of the erasure from it, and a writer
    /// with an older state gets a conflict.
    fn erase_stream(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Ends `stream` with a [`CLOSED`](crate::event::CLOSED) event of the given id if the stream is
    /// at `expected`, and deletes its timers. A stream that is closed already is `Committed` as
    /// well.
    fn close_stream(
        &self,
        stream: &StreamId,
        expected: Version,
        event_id: EventId,
    ) -> impl Future<Output = Result<AppendOutcome, StoreError>> + Send;

    /// Stores a replacement for the content of one event, which loads return from then on; the
    /// original stays. Deletes the snapshots at or after the event. For an event that cannot be
    /// decoded or applied, or was applied wrongly.
    ///
    /// A state that was loaded before keeps the old content, and its owner may still save a
    /// snapshot of it. Evict the instance first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`]: there is no such event, or it is erased.
    fn override_event(
        &self,
        stream: &StreamId,
        version: Version,
        replacement: &EncodedMessage,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the time by the store's clock, which sets and compares deadlines.
    fn now(&self) -> impl Future<Output = Result<Timestamp, StoreError>> + Send;

    /// Returns the name of the database system, as the attribute `db.system.name` of
    /// OpenTelemetry names it. Default: `other_sql`.
    fn system(&self) -> &'static str {
        "other_sql"
    }

    /// Returns the state of the store's connection pools in this process, without a call to the
    /// server. Default: none.
    fn pools(&self) -> Vec<PoolStatus> {
        Vec::new()
    }

    /// Measures the server, in one short statement. Default: only its clock.
    fn vitals(&self) -> impl Future<Output = Result<StoreVitals, StoreError>> + Send {
        async { Ok(StoreVitals { now: self.now().await?, oldest_snapshot: None }) }
    }
}

/// The error of a store operation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store rejects the request and always will. Change the request.
    #[error("the store rejected the request: {0}")]
    Invalid(String),
    /// The outcome is unknown: the operation may have happened, or may still happen. Repeat the
    /// request unchanged.
    #[error("the store is unavailable")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
}

impl StoreError {
    /// Creates an `Unavailable` error: the store could not be reached, or its response did not
    /// arrive.
    pub fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }

    /// Returns `true` if a retry can succeed.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
