//! The service that the console shows: orders that tell the stock and remind themselves.

use std::time::Duration;

use composable_rust_core::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) status: String,
    pub(crate) note: String,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderCommand {
    Place {
        note: String,
    },
    #[message(internal)]
    Remind,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderEvent {
    Placed { note: String },
    Reminded,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderRejection {
    AlreadyPlaced,
}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderRejection;
    type Environment = ();

    fn decide(&self, command: OrderCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            OrderCommand::Place { .. } if !self.status.is_empty() => {
                reject(OrderRejection::AlreadyPlaced)
            }
            OrderCommand::Place { note } => record(OrderEvent::Placed { note }),
            OrderCommand::Remind => record(OrderEvent::Reminded),
        }
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed { note } => {
                "placed".clone_into(&mut self.status);
                self.note = note;
            }
            OrderEvent::Reminded => "reminded".clone_into(&mut self.status),
        }
    }

    fn react(&self, event: &OrderEvent, ctx: &Context<Self>) -> Reactions<OrderCommand> {
        match event {
            OrderEvent::Placed { note } => {
                let stock = Stock::id("shelf");
                let reserve =
                    StockCommand::Reserve { order: ctx.id().to_string(), note: note.clone() };
                let later = after(Duration::from_secs(3_600), OrderCommand::Remind);
                effects![tell(&stock, reserve), later.with_id("reminder")]
            }
            OrderEvent::Reminded => effects![],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Stock {
    reserved: u32,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum StockCommand {
    Reserve { order: String, note: String },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum StockEvent {
    Reserved,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum StockRejection {
    Empty,
}

impl Aggregate for Stock {
    const NAME: &'static str = "stock";
    type Command = StockCommand;
    type Event = StockEvent;
    type Rejection = StockRejection;
    type Environment = ();

    fn decide(&self, _: StockCommand, _: &Context<Self>) -> Decision<Self> {
        record(StockEvent::Reserved)
    }

    fn apply(&mut self, _: StockEvent) {
        self.reserved += 1;
    }
}
