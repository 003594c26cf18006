//! Timers: commands that are delivered at a deadline.

use std::future::Future;
use std::time::Duration;

use uuid::Uuid;

use crate::codec::EncodedMessage;
use crate::queue::{Lease, QueueChange};
use crate::store::{StoreError, TimerArming};
use crate::{MessageId, StreamId, Timestamp};

/// The timers of one category in one partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerQueue {
    /// The partition.
    pub partition: u16,
    /// The category of the streams.
    pub category: String,
}

/// One arming of a timer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArmedTimer {
    /// The timer's id, scoped to its stream.
    pub id: String,
    /// The arming.
    pub arming: TimerArming,
}

impl ArmedTimer {
    /// Returns the id of the message that the timer delivers: that of the effect which armed it.
    /// A dead letter of the timer has the same id.
    pub fn message_id(&self, log: Uuid, stream: &StreamId) -> MessageId {
        let TimerArming { armed_by, effect_index } = self.arming;
        MessageId(crate::ids::effect_id(log, stream, armed_by, effect_index))
    }
}

/// A timer that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTimer {
    /// The partition.
    pub partition: u16,
    /// The timer's stream.
    pub stream: StreamId,
    /// The timer.
    pub timer: ArmedTimer,
    /// The deadline, by the store's clock; after a failed attempt, the time of the retry.
    pub due: Timestamp,
    /// The time at which the timer was armed, by the store's clock.
    pub armed_at: Timestamp,
    /// The command to deliver.
    pub content: EncodedMessage,
    /// [`Metadata`](crate::Metadata) as JSON text.
    pub metadata: String,
    /// The number of failed attempts.
    pub attempts: u32,
    /// `true` if the last attempt is recorded as [begun](QueueChange::Begun) and its outcome is
    /// not.
    pub begun: bool,
}

/// The timers that are due, and the time until the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DueTimers {
    /// The timers that are due, in order of deadlines.
    pub timers: Vec<DueTimer>,
    /// The time until the next deadline, by the store's clock: zero if more timers are due
    /// already, `None` if no more are armed.
    pub next: Option<Duration>,
}

/// The outcome of an attempt to fire a timer that did not fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerSettlement {
    /// The lease under which the attempt was made.
    pub lease: Lease,
    /// The timer's stream, of the lease's partition.
    pub stream: StreamId,
    /// The timer. Another arming of the same id is not changed.
    pub timer: ArmedTimer,
    /// The change; `Done` without rows deletes the timer.
    pub change: QueueChange,
}

/// The port to timers.
///
/// Appends arm, cancel and fire timers ([`Append::timers`](crate::store::Append::timers),
/// [`Append::fired_timers`](crate::store::Append::fired_timers)).
///
/// # Cancel safety
///
/// A dropped call that writes may still commit. Treat it as [`StoreError::Unavailable`].
pub trait Timers: Send + Sync + 'static {
    /// Reads up to `limit` timers of all these queues together that are due by the store's clock,
    /// the earliest first.
    fn due_timers(
        &self,
        queues: &[TimerQueue],
        limit: usize,
    ) -> impl Future<Output = Result<DueTimers, StoreError>> + Send;

    /// Settles timers of one partition that did not fire, in one transaction.
    ///
    /// A failed timer is due again after its wait, a begun one is due now, and a parked one becomes
    /// a dead letter. A timer is not changed if its settlement's lease is no longer at its epoch,
    /// or if the timer is armed differently by now.
    fn settle_timers(
        &self,
        partition: u16,
        settlements: &[TimerSettlement],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}
