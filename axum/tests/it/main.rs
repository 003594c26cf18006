//! Tests of the HTTP adapter.

mod commands;
mod counted_reads;
mod health;
mod keys;
mod openapi;
mod order;
mod problems;
#[cfg(feature = "sqlx")]
mod queries;
mod read_models;
mod reads;
mod same_names;
mod sockets;
mod support;
mod workflows;
