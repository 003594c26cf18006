#![doc = include_str!("../README.md")]

mod aggregate;
mod reducer;

pub use aggregate::{Counter, CounterCommand, CounterError, CounterEvent};
pub use reducer::{Tally, TallyAction};
