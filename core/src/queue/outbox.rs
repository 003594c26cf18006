//! The outbox: effects to be executed after their commit.

use std::future::Future;
use std::time::Duration;

use crate::queue::{CheckpointAdvance, Lease};
use crate::store::{NewOutboxRow, StoreError};
use crate::{StreamId, Timestamp};

/// The kind of worker that executes an outbox row. The variants are in order of their names, by
/// which stores keep and order them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OutboxKind {
    /// A command of a policy, or a command or reply that came over the bus. A backlog of these does
    /// not delay messages between instances.
    Bulk,
    /// A request to a gateway.
    Call,
    /// A command or reply for another instance.
    Dispatch,
    /// An event that a policy could not turn into commands when it came, or a stream on which a
    /// relay could not publish.
    Policy,
    /// An event that a projection could not apply.
    Projection,
    /// A message for another service, to be published on the bus; its target is `bus`.
    Send,
    /// A timer, among dead letters. Not valid in the outbox, which holds no timers.
    Timer,
}

/// Implements both directions from one table. `as_str` does not compile if a kind is missing.
macro_rules! kind_names {
    ($($kind:ident: $name:literal,)*) => {
        impl OutboxKind {
            /// Returns the name that stores keep.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Returns the kind of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$kind),)*
                    _ => None,
                }
            }
        }
    };
}

kind_names! {
    Bulk: "bulk",
    Call: "call",
    Dispatch: "dispatch",
    Policy: "policy",
    Projection: "projection",
    Send: "send",
    Timer: "timer",
}

/// An effect and the stream that sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// The sender. Messages of one sender for one recipient are executed in order.
    pub sender: StreamId,
    /// The effect.
    pub row: NewOutboxRow,
}

/// The part of the outbox that one worker reads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Queue {
    /// The partition.
    pub partition: u16,
    /// The kind of worker that executes the rows.
    pub kind: OutboxKind,
    /// The name of the target, gateway, policy or projection.
    pub target: String,
}

/// The state of a queue that is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSummary {
    /// The queue. For timers: kind [`OutboxKind::Timer`] and the category.
    pub queue: Queue,
    /// The number of its rows, or of timers that are due.
    pub rows: u64,
    /// The age of the first row, by the store's clock; for timers, the time since the first was
    /// due.
    pub oldest: Duration,
    /// The last error of the first row that has one.
    pub last_error: Option<String>,
    /// The number of its dead letters.
    pub dead_letters: u64,
}

/// The position of a row in its queue. Positions rise in commit order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueuePosition {
    /// A number drawn under the partition's lock.
    pub sequence: u64,
    /// The index among the rows of one sequence number.
    pub index: u32,
}

/// A row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// The row's queue.
    pub queue: Queue,
    /// The row's position in the queue.
    pub position: QueuePosition,
    /// The effect and its sender.
    pub message: OutboxMessage,
    /// The number of failed attempts.
    pub attempts: u32,
    /// `true` if the last attempt is recorded as [begun](QueueChange::Begun) and its outcome is
    /// not: the attempt is running, or its process has died.
    pub begun: bool,
    /// The time until the next attempt, by the store's clock; zero if it is allowed now.
    pub wait: Duration,
    /// `true` if a dead letter of the same sender and recipient is parked before this row, which
    /// must then be parked behind it.
    pub behind_parked: bool,
    /// The time at which the row was added to the queue, by the store's clock.
    pub queued_at: Timestamp,
}

/// The outcome of an attempt to execute a row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The lease under which the attempt was made, of the row's partition.
    pub lease: Lease,
    /// The row's queue, of the same partition.
    pub queue: Queue,
    /// The row's position in the queue.
    pub position: QueuePosition,
    /// The change.
    pub change: QueueChange,
}

/// A change of a row of the outbox, or of a timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueChange {
    /// The row is executed and deleted; these rows are added at the ends of their queues.
    Done(Vec<OutboxMessage>),
    /// An attempt begins. It counts as failed until another change records its outcome, so that an
    /// attempt that kills the process is on record.
    Begun {
        /// The number of attempts, including this one.
        attempts: u32,
    },
    /// The attempt failed and is retried.
    Failed {
        /// The number of failed attempts.
        attempts: u32,
        /// The time until the retry.
        retry_after: Duration,
        /// The error.
        error: String,
    },
    /// The row becomes a dead letter.
    Parked {
        /// The number of failed attempts.
        attempts: u32,
        /// The error; `None` if the row is parked behind another dead letter.
        error: Option<String>,
    },
}

impl QueueChange {
    /// Returns `true` if the change adds rows to queues.
    pub fn adds_rows(&self) -> bool {
        matches!(self, Self::Done(rows) if !rows.is_empty())
    }
}

/// The port to the outbox.
///
/// Its queues hold the rows that appends store
/// ([`Append::outbox`](crate::store::Append::outbox)) and the rows that workers add. The rows of a
/// queue that have the same sender (a stream) and the same recipient form a *pair*.
///
/// # Cancel safety
///
/// A dropped call that writes may still commit. Treat it as [`StoreError::Unavailable`].
pub trait Outbox: Send + Sync + 'static {
    /// Adds `rows` to the queues of `partition`, in order, under the partition's lock, and advances
    /// a follower's checkpoint in the same transaction.
    ///
    /// Returns `false`, and writes nothing, if the checkpoint's lease is no longer at its epoch. If
    /// the checkpoint is already at or past the given one, it returns `true` and writes nothing.
    ///
    /// Without a checkpoint, repeating the call may add the rows twice; the recipient's inbox
    /// ignores the duplicates.
    fn enqueue(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        advance: Option<&CheckpointAdvance>,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Adds `rows` to the dead letters of `partition` without an attempt, in order, at the ends of
    /// their queues. A row whose id is among the dead letters or in its queue is a duplicate and is
    /// ignored.
    fn park(
        &self,
        partition: u16,
        rows: &[OutboxMessage],
        error: &str,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Reads up to `limit` rows of each queue after the given position, in order of positions, in
    /// one short statement.
    fn read_outbox(
        &self,
        after: &[(Queue, QueuePosition)],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<OutboxRow>, StoreError>> + Send;

    /// Reads the position of the last row of each queue. That of an empty queue is before all
    /// others.
    fn last_positions(
        &self,
        queues: &[Queue],
    ) -> impl Future<Output = Result<Vec<QueuePosition>, StoreError>> + Send;

    /// Summarizes all queues that have rows, due timers or dead letters, in order, also those that
    /// no process works. Each count, and the search for an error, stops at `limit`.
    fn summarize_queues(
        &self,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<QueueSummary>, StoreError>> + Send;

    /// Counts the rows of each queue, up to `limit`, in one short statement that reads no more rows
    /// of a queue than that.
    fn count_waiting(
        &self,
        queues: &[Queue],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<usize>, StoreError>> + Send;

    /// Reads the streams that have rows in a queue or among its dead letters, each once, in order.
    fn queued_streams(
        &self,
        queue: &Queue,
    ) -> impl Future<Output = Result<Vec<StreamId>, StoreError>> + Send;

    /// Settles rows of one partition, in one transaction, and returns which settlements were
    /// accepted.
    ///
    /// A settlement whose lease is no longer at its epoch is not accepted, and its row is not
    /// changed. A settlement of a row that no longer exists is accepted and adds no rows.
    fn settle(
        &self,
        partition: u16,
        settlements: &[Settlement],
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Completes when rows may have been queued, timers armed or decisions made since the call that
    /// returned `seen`; returns the number to pass to the next call. The first call passes 0.
    ///
    /// A change by this process is noticed at once, one by another process when the store is
    /// notified of it, or within its poll interval while it cannot be. A notification may be lost,
    /// so callers also look without news, rarely. The call may complete early.
    fn wait_for_work(&self, seen: u64) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Wakes the tasks that [wait for work](Self::wait_for_work), after a change outside the store
    /// such as the pause of a projection. Tasks of other processes are woken too.
    fn wake_workers(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}
