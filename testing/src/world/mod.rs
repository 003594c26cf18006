//! Whole apps on virtual time.

mod process;
mod report;
mod rest;
mod service;
#[expect(clippy::module_inception, reason = "one noun per file")]
mod world;

pub use world::World;
