//! The ports to the queues and to the workers' state: leases, checkpoints, the outbox, timers, dead
//! letters and the inbox.

mod checkpoints;
mod dead_letters;
mod inbox;
mod leases;
mod outbox;
mod timers;

pub use checkpoints::{Checkpoint, CheckpointAdvance, Checkpoints};
pub use dead_letters::{DeadLetter, DeadLetterDecision, DeadLetters};
pub use inbox::{Inbox, InboxEntry};
pub use leases::{Lease, LeaseAction, LeaseRequest, LeaseSnapshot, LeaseStatus, Leases};
pub use outbox::{
    Outbox, OutboxKind, OutboxMessage, OutboxRow, Queue, QueueChange, QueuePosition, QueueSummary,
    Settlement,
};
pub use timers::{ArmedTimer, DueTimer, DueTimers, TimerQueue, TimerSettlement, Timers};
