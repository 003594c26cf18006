//! The store against a real server.

mod append;
mod concurrency;
mod conformance;
mod database;
mod fixtures;
mod load;
mod operator;
mod outage;
mod plans;
mod start;
mod wait;
mod workers;
