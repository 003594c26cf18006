//! The event store in memory: the reference implementation of the port's contract.

mod append;
mod inspect;
mod maintain;
mod read;
mod state;
mod store;

pub use inspect::{StoredOutboxRow, StoredTimer};
pub use store::InMemoryEventStore;
