//! What tests of Composable Rust are made of.
//!
//! An event store in memory that keeps the port's whole contract, and the conformance suite that
//! every event store passes.

pub mod conformance;
mod events_lock;
mod memory;

pub use events_lock::EventsLock;
pub use memory::{InMemoryEventStore, StoredOutboxRow, StoredTimer};
