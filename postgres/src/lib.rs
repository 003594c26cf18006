//! The PostgreSQL event store of Composable Rust.
//!
//! [`PostgresEventStore`] implements [`EventStore`](composable_rust_core::store::EventStore) on
//! PostgreSQL 15 to 18. An append is one call of a server-side function, in autocommit: one round
//! trip, one commit, for a batch of any size. The function locks the row of the log partition, so
//! offsets rise by one in commit order and a reader never meets a gap. Each write of a worker is
//! one call as well, so a frozen client holds no locks.
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
//! [`PostgresReadModel`] stores the tables of projections, in the same database or another.
//!
//! # The schema
//!
//! Connecting creates and migrates the tables, unless [`PostgresEventStoreBuilder::migrate`] is set
//! to `false`. The same migrations can be run by hand, in order of their numbers and any number of
//! times. The second command sets the number of log partitions, which never changes:
//!
//! ```text
//! cat postgres/migrations/*.sql | psql "$DATABASE_URL" -v ON_ERROR_STOP=1 --single-transaction
//! psql "$DATABASE_URL" -c 'select create_log(8)'
//! ```
//!
//! # What it asks of the server
//!
//! The store opens at most [`max_connections`](PostgresEventStoreBuilder::max_connections)
//! connections, and three more: to notify, once the process appends; to listen, once it waits for
//! events or work; and to renew its leases, once it works. Each must have a session of its own, on
//! a server that accepts writes: a standby is rejected, and so is a connection pooler that is not
//! in session mode.

mod append;
mod builder;
mod checkpoints;
mod columns;
mod connect;
mod dead_letters;
mod erase;
mod error;
mod examine;
mod inbox;
mod inspection;
mod leases;
mod listen;
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
mod vitals;
mod writers;

pub use builder::PostgresEventStoreBuilder;
pub use error::ConnectError;
pub use migrate::MigrationPlan;
pub use read_model::{PostgresReadModel, PostgresReadModelBuilder};
/// The driver, with which projections write.
pub use sqlx;
pub use sqlx::PgConnection;
pub use store::PostgresEventStore;
