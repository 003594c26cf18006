//! The bus against a real broker.

mod brokers;
#[cfg(target_os = "linux")]
mod clients;
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
