//! The conformance suite of read models.
//!
//! A crate of read models implements [`ReadModelBackend`], writes a factory, and calls
//! [`read_model_conformance!`](crate::read_model_conformance!):
//!
//! ```
//! use composable_rust_testing::InMemoryReadModel;
//! use composable_rust_testing::read_model_conformance::ReadModelBackend;
//!
//! struct Memory(InMemoryReadModel<i64>);
//!
//! impl ReadModelBackend for Memory {
//!     type Model = InMemoryReadModel<i64>;
//!
//!     async fn open(&self) -> InMemoryReadModel<i64> {
//!         self.0.clone()
//!     }
//!
//!     async fn add(&self, connection: &mut i64, amount: i64) {
//!         *connection += amount;
//!     }
//!
//!     async fn total(&self) -> i64 {
//!         self.0.get()
//!     }
//! }
//!
//! async fn memory() -> Memory {
//!     Memory(InMemoryReadModel::default())
//! }
//!
//! composable_rust_testing::read_model_conformance!(memory);
//! ```

mod backend;
mod builders;
mod cases;
mod run;

mod blocked;
mod checkpoints;
mod rebuilds;
mod records;
mod states;
mod transactions;

pub use backend::ReadModelBackend;
pub use cases::cases;
pub use run::{check, run};

pub use crate::suite::{Case, Failure};
