//! Read models made of events.

use std::error::Error;
use std::future::Future;
use std::ops::DerefMut;

use crate::{Checkpoint, Message, Recorded, StoreError, StreamId};

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
    /// The stream categories that it reads, such as `&[Order::NAME]`.
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

    /// An event that may have been projected before was erased with the others of its stream: what
    /// the read model holds of the stream goes. By default, nothing.
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

/// The database of a read model, and what it keeps of its projections.
///
/// The checkpoints lie in the same database as the read model, so that both commit together.
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

    /// The checkpoints of a projection, in order of partitions, and its state. Both empty and
    /// `Running` for one that is not known.
    fn load(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<(Vec<Checkpoint>, ProjectionState), StoreError>> + Send;

    /// Moves checkpoints inside a transaction, each from the offset given first (0 for one that there
    /// is not). False, and the transaction must be dropped, if one of them is elsewhere, or was
    /// written under a higher epoch.
    fn advance(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
        epoch: u64,
        moves: &[(u64, Checkpoint)],
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Deletes the checkpoints of a projection inside a transaction.
    fn forget(
        &self,
        transaction: &mut Self::Transaction,
        name: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Keeps the state of a projection.
    fn set_state(
        &self,
        name: &str,
        state: &ProjectionState,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
