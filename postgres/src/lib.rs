//! The PostgreSQL event store of Composable Rust.
//!
//! [`PostgresEventStore`] keeps the contract of [`EventStore`](composable_rust_core::EventStore) on
//! PostgreSQL 15 to 18. An append is one call of a server-side function, in autocommit: one round
//! trip, one commit, whatever the size of the batch. The function locks the row of the log
//! partition, so offsets rise by one in commit order and a reader never has to guess about gaps.
//! What workers write is one call each as well: a client that is frozen holds nothing.
//!
//! # Example: where the events are kept
//!
//! ```no_run
//! use composable_rust_postgres::PostgresEventStore;
//!
//! # async fn f() -> Result<(), composable_rust_postgres::ConnectError> {
//! let store = PostgresEventStore::connect("postgres://app@localhost/shop").await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`PostgresReadModel`] holds what projections write, in the same database or any other.
//!
//! # The schema
//!
//! Connecting creates and migrates the tables, unless [`PostgresEventStoreBuilder::migrate`] says
//! no. The same migrations can be run by hand, in order of their numbers and any number of times;
//! the second command fixes the number of log partitions for good:
//!
//! ```text
//! cat postgres/migrations/*.sql | psql "$DATABASE_URL" -v ON_ERROR_STOP=1 --single-transaction
//! psql "$DATABASE_URL" -c 'select create_log(8)'
//! ```
//!
//! # What it asks of the server
//!
//! At most [`max_connections`](PostgresEventStoreBuilder::max_connections) connections, and three more
//! once the process appends (to notify), waits for events or work (to listen) and works (to keep its
//! leases). Each must be a session of its own with a server that takes writes: a standby is refused,
//! and so is a connection pooler that is not in session mode.

mod append;
mod builder;
mod checkpoints;
mod columns;
mod connect;
mod dead_letters;
mod erase;
mod error;
mod inbox;
mod leases;
mod load;
mod log;
mod migrate;
mod notify;
mod outbox;
mod pool;
mod read_model;
mod readers;
mod row;
mod session;
mod snapshot;
mod store;
mod summary;
mod timeout;
mod timers;
mod writers;

pub use builder::PostgresEventStoreBuilder;
pub use error::ConnectError;
pub use read_model::{PostgresReadModel, PostgresReadModelBuilder};
/// The driver: what projections write with, and what reads what they wrote.
pub use sqlx;
pub use sqlx::PgConnection;
pub use store::PostgresEventStore;
