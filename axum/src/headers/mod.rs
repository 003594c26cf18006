//! Header fields.

pub(crate) mod entity_tag;
pub(crate) mod idempotency_key;
pub(crate) mod names;
pub(crate) mod single;
pub(crate) mod traceparent;
