//! The bus against a real broker.

mod brokers;
mod conformance;
