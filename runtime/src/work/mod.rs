//! What follows from commits: dispatching, timers, policies, the relay.

mod attempts;
mod breaker;
mod bus_positions;
mod consumer;
mod context;
mod decisions;
mod dispatcher;
mod envelope;
mod execute;
mod follower;
mod gateways;
mod lanes;
mod leases;
mod log_limit;
mod page;
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
mod seal;
mod send;
mod start;
mod subscriptions;
mod timers;
mod watch;

pub use attempts::Attempts;
pub use breaker::BreakerSettings;
pub(crate) use context::RegisteredGateway;
pub(crate) use decisions::{answers_to, mark_refused, refusal};
pub(crate) use follower::event_at;
pub use gateways::GatewaySettings;
pub(crate) use leases::worker_of;
pub(crate) use page::Page;
pub(crate) use parked_streams::ParkedStreams;
pub use policies::ForeignRecord;
pub(crate) use policies::{
    ErasedPolicy, OfErasures, OfEvents, OfRecords, RegisteredPolicy, Source,
};
pub(crate) use policy_follower::policy_worker;
pub use projection_handle::{ProjectionHandle, ProjectionStatus, ProjectionWaitError};
pub(crate) use projections::{ErasedProjection, Registered};
pub use projections::{Poison, ProjectionSettings};
pub(crate) use published::{As, AsTheyAre, Published};
pub(crate) use start::{Plans, Working};
pub use subscriptions::SubscriptionStatus;
