//! The outbox: reading queued messages, executing them, recording the results.

pub(crate) mod circuit_breaker;
pub(crate) mod dead_letters;
pub(crate) mod dispatcher;
pub(crate) mod execute;
pub(crate) mod gateway;
pub(crate) mod lanes;
