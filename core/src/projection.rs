//! Read models made of events.

use std::error::Error;
use std::future::Future;
use std::ops::DerefMut;

use uuid::Uuid;

use crate::queue::Checkpoint;
use crate::store::StoreError;
use crate::{Message, Recorded, StreamId, Version};

/// Why a projection could not take an event; its own reason.
pub type ProjectionError = Box<dyn Error + Send + Sync>;

/// Turns events into a read model: tables that are queried, and can be made anew at any time.
///
/// Each event is projected exactly once: what `project` writes commits with the checkpoint. The
/// events of a stream come in order, streams in any order, so a projection of several streams
/// writes what does not depend on it, with upserts and sums.
pub trait Projection: Send + Sync + 'static {
    /// Of its checkpoint; kept for good and must not change.
    const NAME: &'static str;
    /// The stream categories that it reads, such as `&[Order::CATEGORY]`.
    const CATEGORIES: &'static [&'static str];
    /// Their events. For several categories, an enum with a variant for each event, under the same
    /// names.
    type Event: Message;
    /// The connection that it writes with, inside a transaction: `sqlx::PgConnection` or
    /// `sqlx::SqliteConnection`.
    type Connection: Send;

    /// Takes in an event.
    ///
    /// # Errors
    ///
    /// Nothing of the event is kept. It is tried again; what happens then is a setting.
    fn project(
        &self,
        recorded: &Recorded<Self::Event>,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Empties the read model, before it is rebuilt.
    ///
    /// # Errors
    ///
    /// The rebuilding does not begin.
    fn clear(
        &self,
        connection: &mut Self::Connection,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// The events of a stream up to some version were erased, some of which may have been projected
    /// before: what the read model holds of the stream goes. Called in the order of the stream, like
    /// `project`, and again for each event of it that was erased, in a rebuilding too. A stream that
    /// was closed before it was erased is told of only in a rebuilding. By default, nothing is done.
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

/// How a projection does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProjectionState {
    /// It follows the log.
    #[default]
    Running,
    /// It was emptied and has not caught up since.
    Rebuilding,
    /// An operator has stopped it.
    Paused,
    /// It cannot go on: an event cannot be projected, or the log went back.
    Failed {
        /// Why.
        reason: String,
    },
}

impl ProjectionState {
    /// Returns the name that read models keep.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Rebuilding => "rebuilding",
            Self::Paused => "paused",
            Self::Failed { .. } => "failed",
        }
    }

    /// Returns the reason of a failure; empty in the other states.
    pub fn reason(&self) -> &str {
        match self {
            Self::Failed { reason } => reason,
            Self::Running | Self::Rebuilding | Self::Paused => "",
        }
    }

    /// Returns the state of this name; `reason` is that of a failure.
    pub fn from_name(name: &str, reason: String) -> Option<Self> {
        match name {
            "running" => Some(Self::Running),
            "rebuilding" => Some(Self::Rebuilding),
            "paused" => Some(Self::Paused),
            "failed" => Some(Self::Failed { reason }),
            _ => None,
        }
    }
}

/// A stream of which an event could not be projected: what follows of it waits as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedStream {
    /// The stream.
    pub stream: StreamId,
    /// The last of its events that is projected.
    pub version: Version,
    /// Which waiting this is: what was queued for another is void.
    pub blockage_id: Uuid,
}

/// What a read model keeps of a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionRecord {
    /// The id of the log that it is made of.
    pub log: Uuid,
    /// How it does.
    pub state: ProjectionState,
    /// Its checkpoints, in order of partitions.
    pub checkpoints: Vec<Checkpoint>,
    /// The highest lease epoch that one of the checkpoints was written under; 0 without any.
    pub epoch: u64,
    /// The number of times that it was [forgotten](ReadModel::forget).
    pub rebuilds: u64,
    /// `true` if it was forgotten and its state was never `Running` since.
    pub rebuilding: bool,
}

/// The database of a read model, and what it keeps of its projections.
///
/// The checkpoints lie in the same database as the read model, so that both commit together. A
/// transaction that writes takes the projection's lock first, with [`lock`](Self::lock), and holds it
/// to its end: of two processes that both believe to be at work, one waits for the other, and finds
/// in the record that it is late.
///
/// The checkpoints are written last, just before the commit. A transaction that can only be rolled
/// back, because a projection ignored the error of a statement, must fail there.
///
/// # Errors
///
/// [`StoreError::Unavailable`]: the same may succeed later. [`StoreError::Invalid`]: the database
/// refuses what was written, also in the commit; the event that was projected is at fault.
///
/// # Cancel safety
///
/// A transaction whose call is dropped leaves nothing behind, except that [`commit`](Self::commit)
/// may still commit.
pub trait ReadModel: Send + Sync + 'static {
    /// What projections write with.
    type Connection: Send;
    /// A transaction; dropped, it leaves nothing behind.
    type Transaction: DerefMut<Target = Self::Connection> + Send;

    /// Begins a transaction.
    fn begin(&self) -> impl Future<Output = Result<Self::Transaction, StoreError>> + Send;

    /// Commits a transaction. `Unavailable` leaves the outcome open: look at the checkpoints.
    fn commit(
        &self,
        transaction: Self::Transaction,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The record of a projection; `None` for one that is not known. Does not wait for transactions.
    fn load(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<ProjectionRecord>, StoreError>> + Send;

    /// Takes the projection's lock and returns its record, as it is once the lock is had. One that is
    /// not known becomes that of `log`, and `Running`.
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

    /// Deletes the checkpoints and waiting streams of a projection, makes its state `Rebuilding`, and
    /// makes it that of `log`. The caller holds the lock.
    fn forget(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        log: Uuid,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The waiting streams of a projection, in order.
    fn blocked_streams(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Vec<BlockedStream>, StoreError>> + Send;

    /// Looks whether a stream waits. The caller holds the lock.
    fn find_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> impl Future<Output = Result<Option<BlockedStream>, StoreError>> + Send;

    /// Keeps that a stream waits, in place of what is kept of it. The caller holds the lock.
    fn set_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        waiting: &BlockedStream,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A stream does not wait any more. The caller holds the lock.
    fn clear_blocked(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Whether a projection failed for want of the database, not because of the event: such a
    /// failure is waited out and counts as no attempt.
    fn is_unavailable(&self, error: &(dyn Error + 'static)) -> bool {
        let _ = error;
        false
    }
}
