//! The event bus: relaying events, sending commands and replies, consuming topics.

pub(crate) mod commands;
pub(crate) mod connection;
pub(crate) mod consumer;
pub(crate) mod envelope;
pub(crate) mod parked_streams;
pub(crate) mod published_topic;
pub(crate) mod publishers;
pub(crate) mod received;
pub(crate) mod relay;
pub(crate) mod relay_lag;
pub(crate) mod seal;
pub(crate) mod sender;
pub(crate) mod subscriptions;
