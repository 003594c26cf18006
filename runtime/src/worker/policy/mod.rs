//! Policies: commands derived from events.

pub(crate) mod follower;
pub(crate) mod policy;
