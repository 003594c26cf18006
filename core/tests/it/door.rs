//! Two small aggregates for other tests.

use composable_rust_core::prelude::*;
use serde::{Deserialize, Serialize};

/// A state.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) enum Door {
    #[default]
    Closed,
    Open,
}

/// The same state in another order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) enum Gate {
    Open,
    #[default]
    Closed,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum DoorCommand {
    Open,
    Close,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum DoorEvent {
    Opened { by: String },
    Closed,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum DoorError {
    AlreadyThere,
}

macro_rules! door {
    ($name:ident, $stream:literal) => {
        impl Aggregate for $name {
            const NAME: &'static str = $stream;
            type Command = DoorCommand;
            type Event = DoorEvent;
            type Rejection = DoorError;
            type Environment = ();

            fn decide(&self, command: DoorCommand, ctx: &Context<Self>) -> Decision<Self> {
                match (self, command) {
                    (Self::Closed, DoorCommand::Open) => {
                        record(DoorEvent::Opened { by: ctx.user().unwrap_or_default().to_owned() })
                    }
                    (Self::Open, DoorCommand::Close) => record(DoorEvent::Closed),
                    _ => reject(DoorError::AlreadyThere),
                }
            }

            fn apply(&mut self, event: DoorEvent) {
                *self = match event {
                    DoorEvent::Opened { .. } => Self::Open,
                    DoorEvent::Closed => Self::Closed,
                };
            }
        }
    };
}

door!(Door, "door");
door!(Gate, "gate");
