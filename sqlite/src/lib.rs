//! The embedded event store of Composable Rust: one SQLite file.
//!
//! [`SqliteEventStore`] implements [`EventStore`](composable_rust_core::store::EventStore) without
//! a server; a program that works on it works on PostgreSQL. [`SqliteReadModel`] stores the tables
//! of projections, in the same file or another.
//!
//! - *Durable by default.* A commit survives power loss (`synchronous=FULL`);
//!   [`Synchronous::Normal`] trades that for speed.
//! - *Several processes* can share the file: each writing transaction takes SQLite's one write lock
//!   for a moment, and a commit of another process is noticed within the poll interval.
//! - *Local file systems only.* Write-ahead logging needs shared memory between the processes and
//!   working file locks. Network file systems provide neither, and would corrupt the file.
//! - The log consists of three files, `NAME`, `NAME-wal` and `NAME-shm`. To copy a log that is in
//!   use, run `sqlite3 NAME "vacuum into 'COPY'"`; a copy of `NAME` alone lacks the content of
//!   `NAME-wal`.

mod append;
mod append_state;
mod backup;
mod builder;
mod checkpoints;
mod connection;
mod dead_letters;
mod erase;
mod error;
mod fence;
mod inbox;
mod insert;
mod inspection;
mod leases;
mod load;
mod log;
mod outbox;
mod packed;
mod read_model;
mod schema;
mod snapshot;
mod sql;
mod statement_batch;
mod store;
mod summary;
mod timers;

pub use builder::{MAX_PARTITIONS, SqliteEventStoreBuilder, Synchronous};
pub use error::ConnectError;
pub use read_model::SqliteReadModel;
/// The driver, with which projections write.
pub use sqlx;
pub use sqlx::SqliteConnection;
pub use store::SqliteEventStore;
