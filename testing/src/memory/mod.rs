//! The event store in memory: the reference implementation of the port's contract.

mod append;
mod checkpoints;
mod dead_letters;
mod erase;
mod inbox;
mod inspect;
mod inspection;
mod leases;
mod log;
mod outbox;
mod snapshot;
mod state;
mod store;
mod summary;
mod timers;

pub use inspect::{StoredOutboxRow, StoredTimer};
pub use store::InMemoryEventStore;
