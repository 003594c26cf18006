//! What follows from commits: dispatching, timers, policies, the relay.

mod bus_positions;
mod circuit_breaker;
mod cloud_event;
mod consumer;
mod context;
mod dead_letters;
mod dispatcher;
mod execute;
mod follower;
mod gateways;
mod lanes;
mod leases;
mod log_limit;
mod page_size;
mod parked_streams;
mod policies;
mod policy_follower;
mod projection_gauges;
mod projection_handle;
mod projection_runner;
mod projections;
mod pruner;
mod published;
mod publishers;
mod quarantine;
mod queue_bounds;
mod received;
mod relay;
mod relay_lag;
mod retry;
mod seal;
mod send;
mod subscriptions;
mod supervisor;
mod timers;
mod unserved_queues;

pub use circuit_breaker::CircuitBreakerSettings;
pub(crate) use context::RegisteredGateway;
pub(crate) use dead_letters::{answers_to, mark_refused, refusal};
pub(crate) use follower::event_at;
pub use gateways::GatewaySettings;
pub(crate) use leases::worker_of;
pub(crate) use page_size::PageSize;
pub(crate) use parked_streams::ParkedStreams;
pub use policies::ExternalRecord;
pub(crate) use policies::{
    ErasedPolicy, ErasurePolicy, EventPolicy, PolicySource, RecordPolicy, RegisteredPolicy,
};
pub(crate) use policy_follower::policy_worker;
pub use projection_handle::{ProjectionHandle, ProjectionStatus, ProjectionWaitError};
pub(crate) use projections::{ErasedProjection, RegisteredProjection};
pub use projections::{PoisonPolicy, ProjectionSettings};
pub(crate) use published::{MapWith, PublishedTopic, Verbatim};
pub use retry::RetryPolicy;
pub use subscriptions::SubscriptionStatus;
pub(crate) use supervisor::{RunningWorkers, WorkerSet};
