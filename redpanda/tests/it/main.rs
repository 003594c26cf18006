//! Tests of the bus against a real broker.

mod brokers;
#[cfg(target_os = "linux")]
mod clients;
mod conformance;
mod fencing;
mod fixtures;
mod group;
mod no_transactions;
mod outage;
mod positions;
#[cfg(feature = "tls")]
mod tls;
mod topics;
