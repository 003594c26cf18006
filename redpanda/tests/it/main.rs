//! The bus against a real broker.

mod brokers;
mod conformance;
mod fencing;
mod fixtures;
mod group;
mod outage;
mod plain;
mod positions;
#[cfg(feature = "tls")]
mod tls;
mod topics;
