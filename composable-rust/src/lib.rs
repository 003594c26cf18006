//! Event-driven backends in Rust: pure reducers and aggregates, effects as values, event sourcing
//! on PostgreSQL or an embedded file, testable to the last effect.
#![doc = include_str!("guide.md")]

mod connect;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;

pub use composable_rust_core::{
    Aggregate, CallError, CallOutcome, Context, CorrelationId, Decision, DecisionExt, Effect,
    Effects, EventId, EventSet, Gateway, Heard, Id, IntoEvent, InvalidId, InvalidPosition,
    InvalidTimestamp, LinearSaga, Message, MessageId, Metadata, Outcome, Position, Projection,
    ProjectionError, Reactions, Receipt, Recorded, Reducer, Reply, ReturnPath, Saga, SagaContext,
    SagaRequest, SagaStep, StreamId, Target, TargetExt, Timestamp, Version,
};
pub use composable_rust_core::{
    after, at, call, cancel, combine_reducers, database, dispatch, effects, for_each, future,
    if_let, parallel, publish, record, record_all, reject, repeat, reply_to, scope_reducer,
    sequential, tell, unchanged,
};
pub use composable_rust_runtime::{
    App, AppBuilder, BuildError, ExternalRecord, Handle, LoadError, SendCommand, SendError,
    SettleError, Store, WaitError, shutdown_signal,
};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use connect::connect_read_model;
pub use connect::{ConnectError, InvalidStoreUrl, StoreUrl, connect};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use sql::{SqlConnection, SqlQuery, SqlReadModel, SqlRow, SqlTransaction, SqlValue};

pub use composable_rust_core::{
    bus, codec, composition, effect, event, message, projection, queue, saga, schema, trace,
};
pub use composable_rust_runtime::{operations, reducer_store, settings};

/// Clocks, and sources of ids and randomness: the ports and the system's own.
pub mod environment {
    pub use composable_rust_core::environment::{Clock, IdGenerator, Rng};
    pub use composable_rust_runtime::environment::{SystemClock, SystemIds, SystemRng};
}

/// The event store: its port, and the rows that go through it.
pub mod store {
    pub use composable_rust_core::store::*;
    pub use composable_rust_runtime::GroupCommit;
}

#[cfg(feature = "axum")]
pub use composable_rust_axum as axum;
#[cfg(feature = "postgres")]
pub use composable_rust_postgres as postgres;
#[cfg(feature = "redpanda")]
pub use composable_rust_redpanda as redpanda;
#[cfg(feature = "sqlite")]
pub use composable_rust_sqlite as sqlite;
#[cfg(feature = "telemetry")]
pub use composable_rust_telemetry as telemetry;
#[cfg(feature = "testing")]
pub use composable_rust_testing as testing;

#[doc(hidden)]
pub use composable_rust_core::__private;

/// The verbs, the traits that programs implement, and their most frequent types.
pub mod prelude {
    pub use composable_rust_core::prelude::*;
    pub use composable_rust_runtime::{App, Handle, SendError};
}

/// The README and the book: their snippets are tests.
#[cfg(all(doctest, feature = "postgres", feature = "sqlite", feature = "testing"))]
mod book {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/src/getting-started.md")]
    mod getting_started {}
    #[doc = include_str!("../../docs/src/concepts.md")]
    mod concepts {}
    #[doc = include_str!("../../docs/src/composition.md")]
    mod composition {}
    #[doc = include_str!("../../docs/src/event-sourcing.md")]
    mod event_sourcing {}
    #[doc = include_str!("../../docs/src/types.md")]
    mod types {}
    #[doc = include_str!("../../docs/src/sagas.md")]
    mod sagas {}
    #[doc = include_str!("../../docs/src/gateways.md")]
    mod gateways {}
    #[doc = include_str!("../../docs/src/policies.md")]
    mod policies {}
    #[doc = include_str!("../../docs/src/event-bus.md")]
    mod event_bus {}
    #[doc = include_str!("../../docs/src/trust.md")]
    mod trust {}
    #[cfg(feature = "redpanda")]
    #[doc = include_str!("../../docs/src/kafka.md")]
    mod kafka {}
    #[doc = include_str!("../../docs/src/postgres.md")]
    mod postgres {}
    #[doc = include_str!("../../docs/src/projections.md")]
    mod projections {}
    #[cfg(feature = "axum")]
    #[doc = include_str!("../../docs/src/http.md")]
    mod http {}
    #[doc = include_str!("../../docs/src/testing.md")]
    mod testing {}
    #[doc = include_str!("../../docs/src/operations.md")]
    mod operations {}
    #[cfg(feature = "axum")]
    #[doc = include_str!("../../docs/src/deployment.md")]
    mod deployment {}
    #[doc = include_str!("../../docs/src/sizing.md")]
    mod sizing {}
    #[cfg(feature = "axum")]
    #[doc = include_str!("../../docs/src/console.md")]
    mod console {}
    #[cfg(feature = "telemetry")]
    #[doc = include_str!("../../docs/src/observability.md")]
    mod observability {}
}
