//! The conformance suite of event buses.
//!
//! A bus crate implements [`BusBackend`], writes a factory, and calls
//! [`bus_conformance!`](crate::bus_conformance!):
//!
//! ```
//! use composable_rust_testing::InMemoryEventBus;
//! use composable_rust_testing::bus_conformance::BusBackend;
//!
//! struct Memory(InMemoryEventBus);
//!
//! impl BusBackend for Memory {
//!     type Bus = InMemoryEventBus;
//!
//!     async fn open(&self) -> InMemoryEventBus {
//!         self.0.clone()
//!     }
//!
//!     fn max_outstanding(&self) -> usize {
//!         20
//!     }
//! }
//!
//! async fn memory() -> Memory {
//!     Memory(InMemoryEventBus::new().with_max_outstanding(20))
//! }
//!
//! composable_rust_testing::bus_conformance!(memory);
//! ```

mod backend;
mod cases;
mod run;
mod subject;

mod bounds;
mod content;
mod groups;
mod publishers;
mod redelivery;

pub use backend::BusBackend;
pub use cases::{BusCase, CASES};
pub use run::{check, run};

pub use crate::suite::{Case, Failure};
