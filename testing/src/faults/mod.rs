//! An event store with injected faults.

mod plan;
mod store;

pub use plan::{Chances, Fault, FaultCounts};
pub use store::{FaultPlan, FaultyEventStore};
