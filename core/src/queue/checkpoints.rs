//! Checkpoints: the progress of followers and bus consumers.

use std::future::Future;

use crate::EventId;
use crate::queue::Lease;
use crate::store::StoreError;

/// The progress of a follower in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The partition.
    pub partition: u16,
    /// The last offset that is processed.
    pub offset: u64,
    /// The id of the event at that offset. If the log has another event there, the log was rewound.
    pub event_id: Option<EventId>,
}

/// A step of a follower's checkpoint, which commits together with the effects that the follower
/// queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointAdvance {
    /// The follower's name.
    pub name: String,
    /// The right to move the checkpoint.
    pub lease: Lease,
    /// The new checkpoint, of the lease's partition.
    pub to: Checkpoint,
}

/// The port to checkpoints.
///
/// A checkpoint that a lease protects advances with
/// [`Outbox::enqueue`](crate::queue::Outbox::enqueue).
///
/// # Cancel safety
///
/// A dropped call that writes may still commit. Treat it as [`StoreError::Unavailable`].
pub trait Checkpoints: Send + Sync + 'static {
    /// Reads the checkpoints of a follower, in order of partitions. A partition in which the
    /// follower has not started has none.
    fn load_checkpoints(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Vec<Checkpoint>, StoreError>> + Send;

    /// Stores checkpoints that no lease protects, such as a bus consumer's; their partitions are
    /// those of the topic. Each checkpoint only moves forwards.
    fn save_checkpoints(
        &self,
        name: &str,
        to: &[Checkpoint],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Sets the checkpoint of the follower `worker` in one partition, also backwards, and ends the
    /// lease of that name.
    ///
    /// The lease's epoch rises, so its last holder can no longer move the checkpoint. A checkpoint
    /// with offset 0 is stored too, also where there was none.
    fn rewind(
        &self,
        worker: &str,
        to: Checkpoint,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
