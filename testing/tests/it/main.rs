//! The tests of this crate.

mod memory;
