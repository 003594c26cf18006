//! Policies: commands derived from events.

pub(crate) mod consumer;
pub(crate) mod follower;
pub(crate) mod registered;
