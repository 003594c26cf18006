//! Projections: read models kept up to date with the log.

pub(crate) mod gauges;
pub(crate) mod handle;
pub(crate) mod registered;
pub(crate) mod runner;
