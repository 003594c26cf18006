//! The store against a real server.

mod append;
mod concurrency;
mod database;
mod fixtures;
mod load;
mod operator;
mod start;
mod wait;
