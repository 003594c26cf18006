//! The presence of a process at a store that notices whatever its processes do.

use std::fmt::Debug;

use futures_util::future::BoxFuture;

/// The presence of a process at a store that lives in the same process, or sees as much: see
/// [`EventStore::attend`](crate::store::EventStore::attend).
///
/// The leases and announcements of the holder do not expire while its presence exists. Dropping it
/// means that the process has gone: leases that it has not released expire at once.
pub trait Presence: Debug + Send + Sync + 'static {
    /// Completes when leases, members, the pause or the number of overrides may have changed since
    /// the call that returned `seen`, or when the lease of a process without presence expires.
    /// Returns the number to pass to the next call; the first passes 0. It may complete early.
    fn lease_changes(&self, seen: u64) -> BoxFuture<'static, u64>;
}
