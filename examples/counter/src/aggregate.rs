//! The counter as an aggregate: durable.

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

/// A count that never falls below zero.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counter {
    /// How many there are.
    pub count: u64,
}

/// What a counter is asked.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub enum CounterCommand {
    /// One more.
    Increment,
    /// One less.
    Decrement,
}

/// What happened to a counter.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub enum CounterEvent {
    /// One more.
    Incremented,
    /// One less.
    Decremented,
}

/// Why a counter refuses.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
pub enum CounterError {
    /// It would fall below zero.
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
