//! An open-loop load of orders over HTTP, with a report and an audit.
//!
//! Of the tools for HTTP load, neither goose nor oha remembers which commands were acknowledged,
//! which an audit must know; so this is a small generator around `hdrhistogram` and `reqwest`.

mod audit;
mod client;
mod collector;
mod faults;
mod fleet;
mod generator;
mod ledger;
mod metrics;
mod plan;
mod plot;
mod report;
mod run;
mod statistics;

pub use self::audit::Audit;
pub use self::faults::Fault;
pub use self::fleet::Disk;
pub use self::generator::{Completed, Load, generate};
pub use self::ledger::{Account, Ledger};
pub use self::plan::{cart, order_id};
pub use self::report::Report;
pub use self::run::{LoadArgs, run};
