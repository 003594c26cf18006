//! The runtime on the in-memory store.

mod account;
mod cache;
mod conflicts;
mod deaf;
mod faults;
mod follow_ups;
mod handle;
mod idempotency;
mod loads;
mod logged;
mod projections;
mod recorded;
mod store;
mod till;
mod worker;
