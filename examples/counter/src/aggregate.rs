//! The counter as an aggregate, which is durable.

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

/// A count that never falls below zero.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counter {
    /// The current count.
    pub count: u64,
}

/// The commands of a counter.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub enum CounterCommand {
    /// Add 1 to the count.
    Increment,
    /// Subtract 1 from the count.
    Decrement,
}

/// The events of a counter.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub enum CounterEvent {
    /// The count rose by 1.
    Incremented,
    /// The count fell by 1.
    Decremented,
}

/// The reasons for which a counter rejects a command.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub enum CounterError {
    /// The count is 0 and cannot be decremented.
    AtZero,
}

impl Aggregate for Counter {
    const NAME: &'static str = "counter";
    type Command = CounterCommand;
    type Event = CounterEvent;
    type Rejection = CounterError;
    type Environment = ();

    fn decide(&self, command: CounterCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            CounterCommand::Increment => record(CounterEvent::Incremented),
            CounterCommand::Decrement if self.count == 0 => reject(CounterError::AtZero),
            CounterCommand::Decrement => record(CounterEvent::Decremented),
        }
    }

    fn apply(&mut self, event: CounterEvent) {
        match event {
            CounterEvent::Incremented => self.count += 1,
            CounterEvent::Decremented => self.count -= 1,
        }
    }
}
