//! Clients of librdkafka: their configuration, their log, and closing them.

pub(crate) mod config;
pub(crate) mod drop_in_background;
pub(crate) mod log;
pub(crate) mod settings;
