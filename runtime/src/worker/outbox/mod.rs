//! The outbox: reading queued messages, executing them, recording the results.

pub(crate) mod circuit_breaker;
pub(crate) mod dispatcher;
pub(crate) mod execution;
pub(crate) mod gateway;
pub(crate) mod lanes;
