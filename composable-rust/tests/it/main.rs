//! The parts together, on real databases.

mod broker;
mod connect;
mod deadly;
mod metrics_table;
mod process;
mod projections;
mod rolling;
mod sending;
mod small_topics;
mod sql;
