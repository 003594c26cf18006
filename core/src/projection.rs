//! Projections of events into read models.

use std::error::Error;
use std::future::Future;
use std::ops::DerefMut;

use uuid::Uuid;

use crate::queue::Checkpoint;
use crate::store::StoreError;
use crate::{EventSet, Recorded, StreamId, Version};

/// The reason for which a projection could not project an event, in the projection's own type.
pub type ProjectionError = Box<dyn Error + Send + Sync>;

/// A projection of events into a read model: tables to query, which can be rebuilt at any time.
///
/// Each event is projected exactly once: the writes of `project` commit with the checkpoint. The
/// events of a stream come in order, but streams in any order. So a projection of several streams
/// writes only what does not depend on the order of streams, with upserts and sums.
pub trait Projection: Send + Sync + 'static {
    /// The name of the projection's checkpoints. It is stored permanently and must not change.
    const NAME: &'static str;
    /// The events that the projection reads: an aggregate, or an enum that derives [`EventSet`].
    type Events: EventSet;
    /// The connection to write with, inside a transaction: `SqlConnection`, which runs on
    /// PostgreSQL and SQLite, or that of one database, `sqlx::PgConnection` or
    /// `sqlx::SqliteConnection`.
    type Connection: Send;

    /// Projects an event.
    ///
    /// # Errors
    ///
    /// The runtime rolls back the writes of the event and retries it. A setting decides what
    /// happens when the retries fail too.
    fn project(
        &self,
        recorded: &Recorded<<Self::Events as EventSet>::Event>,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Empties the read model, before it is rebuilt.
    ///
    /// # Errors
    ///
    /// The rebuild does not begin.
    fn clear(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Deletes what the read model holds of a stream whose events were erased up to some version.
    ///
    /// Some of these events may have been projected before. The runtime calls this method in the
    /// order of the stream, like `project`, and again for each erased event, in a rebuild too. For
    /// a stream that was closed before it was erased, the runtime calls this method only in a
    /// rebuild. Default: does nothing.
    ///
    /// # Errors
    ///
    /// As [`Projection::project`].
    fn erase(
        &self,
        stream: &StreamId,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send {
        let _ = (stream, connection);
        async { Ok(()) }
    }
}

/// The state of a projection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProjectionState {
    /// The projection follows the log.
    #[default]
    Running,
    /// The projection follows the log, but a partition waits: the process that runs the projection
    /// cannot decode the partition's next event, which newer code has recorded. Deploy code that
    /// declares the event. The projection goes on by itself, and fails if no running code decodes
    /// the event within `Settings::unknown_message_grace`.
    WaitingForNewerCode {
        /// The stored name of the event, with the version if only the version is unknown.
        name: String,
    },
    /// The read model was emptied, and the projection has not caught up since.
    Rebuilding,
    /// An operator has paused the projection.
    Paused,
    /// The projection cannot go on: an event cannot be projected, or the log went back.
    Failed {
        /// The reason of the failure.
        reason: String,
    },
}

impl ProjectionState {
    /// Returns the name that read models store.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::WaitingForNewerCode { .. } => "waiting",
            Self::Rebuilding => "rebuilding",
            Self::Paused => "paused",
            Self::Failed { .. } => "failed",
        }
    }

    /// Returns the reason of a failure, or the name of the event that is waited for; empty in the
    /// other states.
    pub fn reason(&self) -> &str {
        match self {
            Self::Failed { reason } => reason,
            Self::WaitingForNewerCode { name } => name,
            Self::Running | Self::Rebuilding | Self::Paused => "",
        }
    }

    /// Returns the state of this name; `reason` is what [`reason`](Self::reason) returned.
    pub fn from_name(name: &str, reason: String) -> Option<Self> {
        match name {
            "running" => Some(Self::Running),
            "waiting" => Some(Self::WaitingForNewerCode { name: reason }),
            "rebuilding" => Some(Self::Rebuilding),
            "paused" => Some(Self::Paused),
            "failed" => Some(Self::Failed { reason }),
            _ => None,
        }
    }
}

/// A stream with an event that could not be projected; the stream's later events wait as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedStream {
    /// The stream.
    pub stream: StreamId,
    /// The version of its last projected event.
    pub version: Version,
    /// The id of this blockage; events queued for another blockage of the stream are void.
    pub blockage_id: Uuid,
}

/// The record that a read model keeps of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionRecord {
    /// The id of the log whose events are projected.
    pub log: Uuid,
    /// The projection's state.
    pub state: ProjectionState,
    /// The projection's checkpoints, in order of partitions.
    pub checkpoints: Vec<Checkpoint>,
    /// The highest lease epoch under which a checkpoint was written; 0 without checkpoints.
    pub epoch: u64,
    /// The number of times that the projection was [forgotten](ReadModel::forget).
    pub rebuilds: u64,
    /// `true` if the projection was forgotten and its state was never `Running` since.
    pub rebuilding: bool,
}

/// The database of a read model, with the records of its projections.
///
/// The checkpoints lie in the same database as the read model, so that both commit together. A
/// transaction that writes first takes the projection's lock, with [`lock`](Self::lock), and holds
/// the lock to its end. If two processes both believe that they hold the lease, one waits for the
/// other, and finds in the record that its lease is stale.
///
/// The checkpoints are written last, just before the commit. A transaction that can only be rolled
/// back, because a projection ignored the error of a statement, must fail when they are written.
///
/// # Errors
///
/// [`StoreError::Unavailable`]: the same call may succeed later. [`StoreError::Invalid`]: the
/// database refuses the writes, at the latest in the commit; the projected event is at fault.
///
/// # Cancel safety
///
/// A transaction whose call is dropped leaves nothing behind, except that [`commit`](Self::commit)
/// may still commit.
pub trait ReadModel: Send + Sync + 'static {
    /// The connection that projections write with.
    type Connection: Send;
    /// A transaction; dropping it rolls it back.
    type Transaction: DerefMut<Target = Self::Connection> + Send;

    /// Begins a transaction.
    fn begin(&self) -> impl Future<Output = Result<Self::Transaction, StoreError>> + Send;

    /// Commits a transaction. After `Unavailable` the outcome is unknown: read the checkpoints.
    fn commit(
        &self,
        transaction: Self::Transaction,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the record of a projection; `None` if the projection is unknown. Does not wait for
    /// transactions.
    fn load(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<ProjectionRecord>, StoreError>> + Send;

    /// Takes the projection's lock and returns its record, read under the lock. An unknown
    /// projection is recorded as one of `log`, in the state `Running`.
    fn lock(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        log: Uuid,
    ) -> impl Future<Output = Result<ProjectionRecord, StoreError>> + Send;

    /// Writes checkpoints under `epoch`. The caller holds the lock.
    fn advance(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        epoch: u64,
        to: &[Checkpoint],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Changes the state of a projection. The caller holds the lock.
    fn set_state(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        to: &ProjectionState,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes the checkpoints and blocked streams of a projection, sets its state to `Rebuilding`
    /// and its log to `log`. The caller holds the lock.
    fn forget(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        log: Uuid,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns the blocked streams of a projection, in order.
    fn blocked_streams(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Vec<BlockedStream>, StoreError>> + Send;

    /// Returns the blockage of a stream; `None` if the stream is not blocked. The caller holds the
    /// lock.
    fn find_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> impl Future<Output = Result<Option<BlockedStream>, StoreError>> + Send;

    /// Records a stream as blocked, replacing any earlier record of it. The caller holds the lock.
    fn set_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        waiting: &BlockedStream,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Deletes the record of a blocked stream. The caller holds the lock.
    fn clear_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns `true` if a projection failed because the database is unavailable, not because of
    /// the event. The runtime waits until such a failure is over and does not count it as an
    /// attempt.
    fn is_unavailable(&self, error: &(dyn Error + 'static)) -> bool {
        let _ = error;
        false
    }
}
