//! The workers of the runtime, on virtual time unless a test says otherwise.

mod actor;
mod backlogs;
mod event_sets;
mod followers;
mod gateway_limits;
mod gateways;
mod leases;
mod lifecycle;
mod linear_saga;
mod lost_news;
mod measured;
mod newer_code;
pub(crate) mod node;
mod order;
mod poison;
mod policies;
mod queues;
mod replies;
mod saga;
mod services;
mod stuck;
mod timers;
mod topic_policies;
mod world;
