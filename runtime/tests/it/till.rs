//! A till, in two releases of a service.

use composable_rust_core::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "till")]
pub(crate) enum TillEvent {
    Added { cents: i64 },
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct OldTill {
    cents: i64,
}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "till")]
pub(crate) enum OldTillCommand {
    Add { cents: i64 },
}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "till")]
pub(crate) enum OldTillError {
    Negative,
}

impl Aggregate for OldTill {
    const NAME: &'static str = "till";
    type Command = OldTillCommand;
    type Event = TillEvent;
    type Rejection = OldTillError;
    type Environment = ();

    fn decide(&self, command: OldTillCommand, _: &Context<Self>) -> Decision<Self> {
        let OldTillCommand::Add { cents } = command;
        if cents < 0 { reject(OldTillError::Negative) } else { record(TillEvent::Added { cents }) }
    }

    fn apply(&mut self, event: TillEvent) {
        let TillEvent::Added { cents } = event;
        self.cents += cents;
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct NewTill {
    cents: i64,
}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "till")]
pub(crate) enum NewTillCommand {
    #[message(version = 2, from(1 = AddV1))]
    Add { cents: i64, note: String },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AddV1 {
    cents: i64,
}

impl From<AddV1> for NewTillCommand {
    fn from(AddV1 { cents }: AddV1) -> Self {
        Self::Add { cents, note: String::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(prefix = "till")]
pub(crate) enum NewTillError {
    Negative,
    TooMuch,
}

impl Aggregate for NewTill {
    const NAME: &'static str = "till";
    type Command = NewTillCommand;
    type Event = TillEvent;
    type Rejection = NewTillError;
    type Environment = ();

    fn decide(&self, command: NewTillCommand, _: &Context<Self>) -> Decision<Self> {
        let NewTillCommand::Add { cents, .. } = command;
        match cents {
            ..0 => reject(NewTillError::Negative),
            0..1_000 => record(TillEvent::Added { cents }),
            _ => reject(NewTillError::TooMuch),
        }
    }

    fn apply(&mut self, event: TillEvent) {
        let TillEvent::Added { cents } = event;
        self.cents += cents;
    }
}
