//! An event store that fails when it is told to.

mod plan;
mod queues;
mod store;

pub use plan::{Chances, Fault, FaultCounts};
pub use store::FaultyEventStore;
