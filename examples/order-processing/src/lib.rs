//! An order system: one aggregate, in a file or on PostgreSQL, behind a command line and an HTTP
//! API. See the README of this crate.

mod app;
mod args;
pub mod cdnow;
mod cents;
pub mod cli;
mod commands;
mod customer_orders;
mod date;
mod demo;
mod http;
mod import;
mod order;
mod output;
mod progress;
mod report;

pub use app::open;
pub use cents::{Cents, InvalidCents};
pub use date::{Date, InvalidDate};
pub use order::{
    Details, Order, OrderCommand, OrderEvent, OrderRejection, PlacedV1, PlacedV2, customer_number,
};
pub use report::{Month, Report};
