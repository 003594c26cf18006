//! Read models made of events.

use std::error::Error;
use std::future::Future;
use std::ops::DerefMut;

use uuid::Uuid;

use crate::{Checkpoint, Message, Recorded, StoreError, StreamId, Version};

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

/// A stream of which an event could not be projected: what follows of it waits as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingStream {
    /// The stream.
    pub stream: StreamId,
    /// The last of its events that is projected.
    pub version: Version,
    /// Which waiting this is: what was queued for another is void.
    pub ticket: Uuid,
}

/// The database of a read model, and what it keeps of its projections.
///
/// The checkpoints lie in the same database as the read model, so that both commit together. Whoever
/// projects takes the projection's lock first, in [`advance`](Self::advance),
/// [`forget`](Self::forget) or [`find_waiting`](Self::find_waiting), and holds it to the end of the
/// transaction: of two processes that both believe to be at work, one waits for the other and then
/// finds that it is late.
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

    /// Commits a transaction. An error leaves the outcome open: look at the checkpoints.
    fn commit(
        &self,
        transaction: Self::Transaction,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The checkpoints of a projection, in order of partitions, and its state. Empty and `Running`
    /// for one that is not known. Does not wait for transactions.
    fn load(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<(Vec<Checkpoint>, ProjectionState), StoreError>> + Send;

    /// Takes the projection's lock and moves checkpoints, each from the offset given first (0 for
    /// one that there is not). False, and the transaction must be dropped, if one of them is
    /// elsewhere, or if any of the projection's was written under a higher epoch.
    fn advance(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        epoch: u64,
        moves: &[(u64, Checkpoint)],
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Takes the projection's lock, deletes its checkpoints and waiting streams, and makes its state
    /// `Rebuilding`.
    fn forget(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Changes the state of a projection to `to`; with `from`, only if it is that now. Says whether
    /// it did.
    fn set_state(
        &self,
        name: &str,
        from: Option<&ProjectionState>,
        to: &ProjectionState,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// The waiting streams of a projection, in order.
    fn waiting(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Vec<WaitingStream>, StoreError>> + Send;

    /// Takes the projection's lock and looks whether a stream waits.
    fn find_waiting(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        stream: &StreamId,
    ) -> impl Future<Output = Result<Option<WaitingStream>, StoreError>> + Send;

    /// Keeps that a stream waits, in place of what is kept of it.
    fn set_waiting(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        waiting: &WaitingStream,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A stream does not wait any more.
    fn end_waiting(
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
