//! The ports of the workers: to the queues (outbox, timers, dead letters), to the workers' own
//! state (leases, checkpoints), and to the inbox of handled messages.

mod checkpoints;
mod dead_letters;
mod inbox;
mod leases;
mod outbox;
mod pauses;
mod timers;

pub use checkpoints::{Checkpoint, CheckpointAdvance, Checkpoints};
pub use dead_letters::{DeadLetter, DeadLetterDecision, DeadLetters};
pub use inbox::{Inbox, InboxEntry};
pub use leases::{Lease, LeaseAction, LeaseRequest, LeaseSnapshot, LeaseStatus, Leases, Process};
pub use outbox::{
    Outbox, OutboxKind, OutboxMessage, OutboxRow, Queue, QueueChange, QueuePosition, QueueSummary,
    Settlement,
};
pub use pauses::Pause;
pub use timers::{ArmedTimer, DueTimer, DueTimers, TimerQueue, TimerSettlement, Timers};
