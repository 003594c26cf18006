//! The outbox: reading queued messages, executing them, recording the results.

pub(crate) mod call_limits;
pub(crate) mod circuit_breaker;
pub(crate) mod dispatcher;
pub(crate) mod execution;
pub(crate) mod gateway;
pub(crate) mod gateway_settings;
pub(crate) mod keyed;
pub(crate) mod lanes;
pub(crate) mod rate_limit;
