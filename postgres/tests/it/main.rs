//! The store against a real server.

mod append;
mod concurrency;
mod conformance;
mod contention;
mod database;
mod fixtures;
mod inbox;
mod leases;
mod load;
mod operator;
mod outage;
mod plans;
mod pooler;
mod queues;
mod read_model;
mod start;
mod timers;
mod vitals;
mod wait;
mod waking;
mod work;
