//! The runtime on the in-memory store.

mod account;
mod conflicts;
mod follow_ups;
mod handle;
mod keys;
mod life;
