//! What follows from commits, on the real runtime: on virtual time unless a test says otherwise.

mod actor;
mod gateways;
mod leases;
mod node;
mod order;
mod policies;
mod poison;
mod purchase;
mod replies;
mod timers;
mod world;
