//! Background work under leases: the outbox, timers, policies, projections, the bus.

pub(crate) mod bus;
pub(crate) mod context;
pub(crate) mod follower;
pub(crate) mod inbox_pruner;
pub(crate) mod leases;
pub(crate) mod log_limit;
pub(crate) mod outbox;
pub(crate) mod page_size;
pub(crate) mod policy;
pub(crate) mod projection;
pub(crate) mod quarantine;
pub(crate) mod queue_bounds;
pub(crate) mod retry;
pub(crate) mod supervisor;
pub(crate) mod timers;
pub(crate) mod unserved_queues;
