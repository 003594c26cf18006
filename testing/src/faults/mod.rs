//! An event store with injected faults.

mod plan;
mod queues;
mod store;

pub use plan::{Chances, Fault, FaultCounts};
pub use store::FaultyEventStore;
