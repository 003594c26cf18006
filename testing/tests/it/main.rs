//! The tests of this crate.

mod broken;
mod failing;
mod memory;
mod test_store;
mod test_store_failures;
