//! The workers of the runtime, on virtual time unless a test says otherwise.

mod actor;
mod backlogs;
mod gateways;
mod leases;
mod life;
pub(crate) mod node;
mod order;
mod poison;
mod policies;
mod purchase;
mod queues;
mod replies;
mod services;
mod stuck;
mod timers;
mod world;
