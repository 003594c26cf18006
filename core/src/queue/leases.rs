//! Leases: the processes that work on a log, and the partitions each of them works on.

use std::future::Future;
use std::time::Duration;

use uuid::Uuid;

use crate::queue::Pause;
use crate::store::StoreError;

/// The right to do one worker's work in one partition.
///
/// Its epoch rises with every change of holder, and every write of a worker requires the epoch
/// under which the worker holds the lease.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// The worker's name, such as `dispatch/order`.
    pub worker: String,
    /// The log partition.
    pub partition: u16,
    /// The number of this holding.
    pub epoch: u64,
}

/// The current state of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStatus {
    /// The lease, with the epoch of its last holder.
    pub lease: Lease,
    /// The process that holds the lease.
    pub holder: Option<Uuid>,
    /// `true` if the lease has expired, by the store's clock.
    pub lapsed: bool,
}

/// The leases and members of some workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseSnapshot {
    /// The leases that were ever held, in order of workers and partitions.
    pub leases: Vec<LeaseStatus>,
    /// The processes that announced a worker and have not expired, in order.
    pub members: Vec<(String, Uuid)>,
    /// The pauses, in order of names.
    pub pauses: Vec<Pause>,
    /// The number of [overrides](crate::store::EventStore::override_event) so far. When it rises, a
    /// stream that could not be loaded may be loadable.
    pub overrides: u64,
}

impl LeaseSnapshot {
    /// Returns the pause of this name.
    pub fn pause(&self, name: &str) -> Option<&Pause> {
        self.pauses.iter().find(|pause| pause.name == name)
    }

    /// Returns `true` while the log is paused: leases are not to be claimed.
    pub fn is_log_paused(&self) -> bool {
        self.pause(Pause::LOG).is_some()
    }
}

/// A change of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseAction {
    /// Takes a lease that has no holder or has expired, under a higher epoch.
    Claim,
    /// Takes a lease from any holder, under a higher epoch; later writes of that holder are
    /// rejected. For operators, who act on a queue that another process works, or none.
    Seize,
    /// Extends a lease.
    Renew,
    /// Gives a lease up.
    Release,
}

/// One process's request to claim, renew and release leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRequest {
    /// The process.
    pub holder: Uuid,
    /// The workers that this process can run. They count towards the fair share until `ttl` has
    /// passed; a worker of an earlier request that is missing here is withdrawn.
    pub workers: Vec<String>,
    /// The time to live of leases that are claimed or renewed, by the store's clock.
    pub ttl: Duration,
    /// The lowest epoch of a claimed lease, which is also higher than the lease's last epoch.
    ///
    /// Processes give their clock's microseconds. So no two claims have the same epoch, even if a
    /// failover lost one of them or a backup was restored between them.
    pub min_epoch: u64,
    /// The changes, each with the epoch at which the lease was read (0 for a lease that was never
    /// held).
    pub changes: Vec<(Lease, LeaseAction)>,
}

/// A process that works on a log, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The id under which the process holds leases.
    pub holder: Uuid,
    /// The name of the program.
    pub program: String,
    /// The version of the program; empty if it is not known.
    pub version: String,
    /// The name of the machine; empty if it is not known.
    pub host: String,
    /// The id of the process on its machine.
    pub pid: u32,
}

/// The port to leases.
///
/// # Cancel safety
///
/// A dropped call that writes may still commit. Treat it as [`StoreError::Unavailable`].
pub trait Leases: Send + Sync + 'static {
    /// Reads the leases and members of `workers`.
    fn load_leases(
        &self,
        workers: &[String],
    ) -> impl Future<Output = Result<LeaseSnapshot, StoreError>> + Send;

    /// Announces the holder's workers and makes each change that is still possible; returns which
    /// succeeded, in order.
    ///
    /// A change requires the lease to have the given epoch. In addition, `Renew` and `Release`
    /// require the lease to be held by the request's holder, and `Claim` requires it to have no
    /// holder or to have expired. A change that fails does not affect the others.
    ///
    /// An expiry further ahead than the lease's time to live, as after the store's clock was set
    /// back, is shortened to one time to live from now. So such a lease lasts at most one more
    /// time to live once any process with the same workers has made a request.
    fn change_leases(
        &self,
        request: &LeaseRequest,
    ) -> impl Future<Output = Result<Vec<bool>, StoreError>> + Send;

    /// Pauses the log ([`Pause::LOG`]), or a part of its work, for all processes; they see it with
    /// their next [`load_leases`](Self::load_leases), for any workers. The store only keeps the
    /// names. If the part is paused already, the call changes nothing.
    fn pause(
        &self,
        name: &str,
        by: Option<&str>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Ends a pause, if there is one of this name.
    fn resume(&self, name: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Records who the holder of leases is. Called when a process starts, and again after an error.
    /// The store forgets processes that started more than a day ago and announce no worker any
    /// more.
    fn introduce(&self, process: &Process) -> impl Future<Output = Result<(), StoreError>> + Send;
}
