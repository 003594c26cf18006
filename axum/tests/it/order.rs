//! The aggregate of the tests.

use std::sync::{Arc, Condvar, Mutex};

use composable_rust_core::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) units: u32,
    pub(crate) shipped: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wrapping {
    Plain,
    Gift { card: String, layers: Vec<Layer> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Layer {
    pub(crate) color: String,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderCommand {
    /// Places the order.
    ///
    /// Once.
    Place { units: u32, wrapping: Option<Wrapping> },
    /// Ships all units.
    Ship,
    /// Waits for the gate, then places one unit.
    Hold,
    /// Panics.
    Panic { secret: String },
    #[message(internal)]
    TimedOut,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderEvent {
    Placed { units: u32 },
    Shipped,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderRejection {
    /// There is no such order.
    #[message(status = 404)]
    Unknown,
    /// The order was placed with other units.
    AlreadyPlaced {
        units: u32,
        status: String,
    },
    /// An order has units.
    #[message(status = 422)]
    NoUnits,
    /// The order has too many units.
    TooMany {
        limit: u32,
    },
    AlreadyShipped(u32),
}

/// A gate that a command waits for.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let closed = self.is_open.lock().unwrap();
        drop(self.opened.wait_while(closed, |is_open| !*is_open).unwrap());
    }
}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderRejection;
    type Environment = Arc<Gate>;

    fn decide(&self, command: OrderCommand, ctx: &Context<Self>) -> Decision<Self> {
        match command {
            OrderCommand::Hold => {
                ctx.env().wait();
                record(OrderEvent::Placed { units: 1 })
            }
            OrderCommand::Panic { secret } => panic!("{secret}"),
            OrderCommand::Place { units: 0, .. } => reject(OrderRejection::NoUnits),
            OrderCommand::Place { units: 100.., .. } => {
                reject(OrderRejection::TooMany { limit: 99 })
            }
            OrderCommand::Place { units, .. } if self.units == 0 => {
                record(OrderEvent::Placed { units })
            }
            OrderCommand::Place { units, .. } if self.units == units => unchanged(),
            OrderCommand::Place { .. } => reject(OrderRejection::AlreadyPlaced {
                units: self.units,
                status: "placed".to_owned(),
            }),
            OrderCommand::Ship | OrderCommand::TimedOut if self.units == 0 => {
                reject(OrderRejection::Unknown)
            }
            OrderCommand::Ship | OrderCommand::TimedOut if self.shipped > 0 => {
                reject(OrderRejection::AlreadyShipped(self.shipped))
            }
            OrderCommand::Ship | OrderCommand::TimedOut => record(OrderEvent::Shipped),
        }
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed { units } => self.units = units,
            OrderEvent::Shipped => self.shipped = self.units,
        }
    }
}
