//! The parts together, on real databases.

mod projections;
mod rolling;
