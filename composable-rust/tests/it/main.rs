//! The parts together, on real databases.

mod broker;
mod process;
mod projections;
mod rolling;
