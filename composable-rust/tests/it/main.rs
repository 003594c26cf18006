//! The parts together, on real databases.

mod process;
mod projections;
mod rolling;
