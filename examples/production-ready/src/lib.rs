//! Orders, payments and shipping, as one process or as three services, ready to operate.
//!
//! See the README of this crate.

pub mod config;
pub mod http;
pub mod load;
pub mod order;
pub mod overview;
pub mod payment;
pub mod shipping;
pub mod shop;
