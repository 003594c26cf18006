//! A Kafka broker of a test's own.

mod broker;
mod server;
mod settings;

pub use broker::TestBroker;
