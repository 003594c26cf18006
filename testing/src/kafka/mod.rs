//! A Kafka broker for one test.

mod broker;
mod server;
mod settings;

pub use broker::TestBroker;
