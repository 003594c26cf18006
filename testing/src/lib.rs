//! What tests of Composable Rust are made of.
//!
//! An event store in memory that keeps the port's whole contract, and the conformance suite that
//! every event store passes.

pub mod conformance;
mod memory;

pub use memory::{InMemoryEventStore, StoredOutboxRow, StoredTimer};
