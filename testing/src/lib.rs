//! Test support for Composable Rust.
//!
//! An event store, an event bus and a read model in memory that fulfil their ports' whole
//! contracts, and the conformance suites of stores, buses and read models.
//!
//! [`given`] tests an aggregate, [`TestStore`] a reducer; both fail on anything that the test does
//! not assert. [`FakeGateway`] is a gateway with scripted answers. [`MockClock`], [`TokioClock`],
//! [`SequentialIds`] and [`SeededRng`] implement the ports, [`fixtures`] fills in values that a
//! test does not care about. [`FaultyEventStore`] adds faults to any store, [`Intercepted`] a layer
//! of a test's own.
//!
//! `clippy.toml.example` in this crate's folder is the `clippy.toml` for crates of reducers and
//! aggregates: it rejects clocks, random ids and maps without an order there, and names the
//! replacements.

mod bus;
pub mod bus_conformance;
mod clock;
pub mod conformance;
mod encoding;
mod environment;
mod events_lock;
mod eventually;
mod failure;
mod fake_gateway;
mod faults;
pub mod fixtures;
mod given;
mod given_event;
mod ids;
mod intercept;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;
#[cfg(feature = "postgres")]
mod postgres_harness;
mod read_model;
pub mod read_model_conformance;
mod states;
mod suite;
mod test_store;
mod tokio_clock;
mod world;

pub use bus::{InMemoryDeliveries, InMemoryDelivery, InMemoryEventBus, InMemoryPublisher};
pub use clock::MockClock;
pub use encoding::{assert_state_survives, assert_survives};
pub use environment::{
    Unimplemented, unimplemented_clock, unimplemented_dependency, unimplemented_fn,
    unimplemented_ids, unimplemented_rng,
};
pub use events_lock::EventsLock;
pub use eventually::{Condition, eventually};
pub use fake_gateway::{FakeAnswer, FakeCall, FakeGateway};
pub use faults::{Chances, Fault, FaultCounts, FaultPlan, FaultyEventStore};
pub use given::{DefaultEnvironment, EnvironmentSource, Given, ProvidedEnvironment, When, given};
pub use given_event::{GivenEvents, Projected, Sent, given_event};
pub use ids::{SeededRng, SequentialIds};
pub use intercept::{CallKind, Intercept, Intercepted, StoreCall, StreamRows};
#[cfg(feature = "kafka")]
pub use kafka::TestBroker;
pub use memory::{InMemoryEventStore, StoredOutboxRow, StoredTimer};
#[cfg(feature = "postgres")]
pub use postgres_harness::TestDatabase;
pub use read_model::{InMemoryReadModel, InMemoryTransaction};
pub use states::assert_states_match_log;
pub use test_store::{TestStore, any_future, recording, rejecting};
pub use tokio_clock::TokioClock;
pub use world::World;
