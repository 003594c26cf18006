//! The runtime on the in-memory store.

mod account;
mod conflicts;
mod faults;
mod follow_ups;
mod handle;
mod keys;
mod life;
mod loads;
mod logged;
mod projections;
mod store_cancel;
mod store_composition;
mod store_effects;
mod store_failure;
mod store_limits;
mod store_script;
mod store_sequence;
mod store_shutdown;
mod till;
mod work;
