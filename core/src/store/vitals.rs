//! The measurements of a store's server and connections.

use std::time::Duration;

use crate::Timestamp;

/// The measurements of a store's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreVitals {
    /// The time by the store's clock.
    pub now: Timestamp,
    /// The age of the oldest snapshot that any transaction of the server holds: rows that were
    /// deleted since cannot be vacuumed. `None` if the store has no such snapshots, or there is
    /// none.
    pub oldest_snapshot: Option<Duration>,
}

/// The connections of one pool of a store, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolStatus {
    /// The name of the pool.
    pub name: &'static str,
    /// The maximum number of connections.
    pub max: usize,
    /// The number of connections that are in use.
    pub in_use: usize,
}
