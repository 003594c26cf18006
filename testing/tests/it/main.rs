//! The tests of composable-rust-testing.

mod broken;
mod bus;
mod bus_suite;
mod environment;
mod failing;
mod fake_gateway;
mod faults;
mod faulty;
mod given;
mod given_event;
mod given_event_failures;
mod given_failures;
mod like_the_store;
mod memory;
#[cfg(feature = "postgres")]
mod postgres_harness;
mod read_model_suite;
mod test_store;
mod test_store_failures;
mod world;
