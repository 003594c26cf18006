//! The event store in memory: the reference implementation of the port's contract.

mod append;
mod checkpoint;
mod dead_letters;
mod inbox;
mod inspect;
mod lease;
mod maintain;
mod outbox;
mod read;
mod state;
mod store;
mod summary;
mod timers;
mod work;

pub use inspect::{StoredOutboxRow, StoredTimer};
pub use store::InMemoryEventStore;
