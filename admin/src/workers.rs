//! Workers, the processes that hold their leases, and the progress of followers.

use std::collections::BTreeMap;

use composable_rust_core::queue::Process;
use composable_rust_core::store::{EventStore as _, Inspection as _};
use composable_rust_core::{Position, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::{Admin, AdminError};

/// A worker, with the processes that share its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerView {
    /// The name of the worker, such as `dispatch/order` or `project/orders`.
    pub worker: String,
    /// The processes that have announced the worker.
    pub processes: Vec<Uuid>,
    /// The partitions that a process holds.
    pub held: Vec<u16>,
    /// The partitions whose leases are free or have expired.
    pub free: Vec<u16>,
}

/// A process that works on the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProcessView {
    /// The id that the process chose when it started.
    pub process: Uuid,
    /// The name of its program; empty if it is not known.
    pub program: String,
    /// The version of its program; empty if it is not known.
    pub version: String,
    /// The name of its machine; empty if it is not known.
    pub host: String,
    /// The id of the process on its machine.
    pub pid: Option<u32>,
    /// The time of its start.
    pub since: Option<Timestamp>,
    /// The workers that it has announced.
    pub workers: Vec<String>,
    /// The number of leases that it holds.
    pub leases: usize,
}

/// The progress of a follower or a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointView {
    /// The name of the checkpoint.
    pub name: String,
    /// The positions, in order of partitions. For a consumer of a topic: its partitions.
    pub positions: Vec<Position>,
    /// The number of events of the log behind the positions; `None` for the checkpoint of a topic.
    pub lag: Option<u64>,
}

impl Admin {
    /// Returns all workers that have leases or processes, in order of names.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn workers(&self) -> Result<Vec<WorkerView>, AdminError> {
        let all = self.store().all_leases().await?;
        let mut workers: BTreeMap<String, WorkerView> = BTreeMap::new();
        let empty = |worker: &str| WorkerView {
            worker: worker.to_owned(),
            processes: Vec::new(),
            held: Vec::new(),
            free: Vec::new(),
        };
        for (worker, process) in &all.members {
            let of = workers.entry(worker.clone()).or_insert_with(|| empty(worker));
            of.processes.push(*process);
        }
        for of in &all.leases {
            let worker = &of.lease.worker;
            let view = workers.entry(worker.clone()).or_insert_with(|| empty(worker));
            let is_held = of.holder.is_some() && !of.lapsed;
            if is_held { &mut view.held } else { &mut view.free }.push(of.lease.partition);
        }
        Ok(workers.into_values().collect())
    }

    /// Returns the processes that work on the log, in order of their ids.
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn processes(&self) -> Result<Vec<ProcessView>, AdminError> {
        let all = self.store().all_leases().await?;
        let known = self.store().all_processes().await?;
        let view = |holder: Uuid| {
            let of = known.iter().find(|(process, _)| process.holder == holder);
            let text = |read: fn(&Process) -> &String| {
                of.map(|(process, _)| read(process).clone()).unwrap_or_default()
            };
            ProcessView {
                process: holder,
                program: text(|of| &of.program),
                version: text(|of| &of.version),
                host: text(|of| &of.host),
                pid: of.map(|(process, _)| process.pid),
                since: of.map(|(_, since)| *since),
                workers: Vec::new(),
                leases: 0,
            }
        };
        let mut processes: BTreeMap<Uuid, ProcessView> = BTreeMap::new();
        for (worker, holder) in all.members {
            processes.entry(holder).or_insert_with(|| view(holder)).workers.push(worker);
        }
        for lease in all.leases.iter().filter(|lease| !lease.lapsed) {
            if let Some(of) = lease.holder.and_then(|holder| processes.get_mut(&holder)) {
                of.leases += 1;
            }
        }
        Ok(processes.into_values().collect())
    }

    /// Returns the progress of all followers and consumers, in order of names. Projections keep
    /// theirs in their read models: see [`Admin::projections`].
    ///
    /// # Errors
    ///
    /// [`AdminError::Store`]: the store cannot be read. Retry.
    pub async fn checkpoints(&self) -> Result<Vec<CheckpointView>, AdminError> {
        let heads = self.store().heads().await?;
        let mut named: BTreeMap<String, Vec<Position>> = BTreeMap::new();
        for of in self.store().all_checkpoints().await? {
            let position = Position::new(of.checkpoint.partition, of.checkpoint.offset);
            named.entry(of.name).or_default().push(position);
        }
        let view = |(name, positions): (String, Vec<Position>)| {
            let follows_log = follows_log(&name);
            let behind = |at: &Position| {
                let head = heads.iter().find(|head| head.partition == at.partition);
                head.map_or(0, |head| head.offset.saturating_sub(at.offset))
            };
            let lag = follows_log.then(|| positions.iter().map(behind).sum());
            CheckpointView { name, positions, lag }
        };
        Ok(named.into_iter().map(view).collect())
    }
}

/// Returns `true` if the checkpoint of this name is a position of the log: that of a policy, a
/// follower or a relay.
pub(crate) fn follows_log(name: &str) -> bool {
    name.starts_with("follow/") || name.starts_with("relay/")
}
