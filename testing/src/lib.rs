//! What tests of Composable Rust are made of.
//!
//! An event store in memory that keeps the port's whole contract.

mod memory;

pub use memory::{InMemoryEventStore, StoredOutboxRow, StoredTimer};
