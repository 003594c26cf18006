//! An event store that fails when it is told to.

mod plan;
mod store;
mod work;

pub use plan::{Chances, Fault, FaultCounts};
pub use store::FaultyEventStore;
