//! The conformance suite of event stores, run with one and with three log partitions.
//!
//! A store crate implements [`StoreBackend`] for its test fixture, writes a factory, and calls
//! [`conformance!`](crate::conformance!):
//!
//! ```
//! use composable_rust_core::store::EventStore;
//! use composable_rust_testing::InMemoryEventStore;
//! use composable_rust_testing::conformance::StoreBackend;
//!
//! struct Memory(InMemoryEventStore);
//!
//! impl StoreBackend for Memory {
//!     type Store = InMemoryEventStore;
//!
//!     fn store(&self) -> InMemoryEventStore {
//!         self.0.clone()
//!     }
//!
//!     async fn open_again(&self) -> InMemoryEventStore {
//!         self.0.clone()
//!     }
//! }
//!
//! async fn memory(partitions: u16) -> Memory {
//!     Memory(InMemoryEventStore::with_partitions(partitions))
//! }
//!
//! composable_rust_testing::conformance!(memory);
//! ```

mod backend;
mod builders;
mod cases;
mod random;
mod run;
mod subject;
mod workers;

mod batches;
mod checkpoints;
mod conflicts;
mod dead_letters;
mod erasure;
mod firing;
mod group_commit;
mod inbox;
mod inspection;
mod leases;
mod limits;
mod names;
mod order;
mod outbox;
mod outbox_timers;
mod partition_hash;
mod pruning;
mod reads;
mod snapshots;
mod subscribe;
mod summaries;
mod timers;
mod unknown_outcome;
mod versions;
mod waking;

pub use backend::StoreBackend;
pub use cases::{CASES, StoreCase};
pub use run::{check, run};

pub use crate::suite::{Case, Failure};
