//! An order of one service, whose parcel is packed in another one.

use composable_rust_core::Timestamp;
use composable_rust_core::prelude::*;
use composable_rust_core::store::EventStore;
use composable_rust_runtime::App;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) notes: u32,
    pub(crate) is_packed: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderCommand {
    Place { count: u32 },
    Note,
    Parcel(Reply<Parcel>),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderEvent {
    Placed { count: u32 },
    Noted,
    Packed,
}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, command: OrderCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            OrderCommand::Place { count } => record(OrderEvent::Placed { count }),
            OrderCommand::Note => record(OrderEvent::Noted),
            OrderCommand::Parcel(_) => record(OrderEvent::Packed),
        }
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed { .. } => {}
            OrderEvent::Noted => self.notes += 1,
            OrderEvent::Packed => self.is_packed = true,
        }
    }

    fn react(&self, event: &OrderEvent, context: &Context<Self>) -> Reactions<OrderCommand> {
        let OrderEvent::Placed { count } = event else { return effects![] };
        let parcel = Parcel::id(context.id().as_str());
        effects![dispatch(&parcel, ParcelCommand::Pack { count: *count })]
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Parcel {
    count: u32,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum ParcelCommand {
    Pack { count: u32 },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum ParcelEvent {
    Packed { count: u32 },
}

impl Aggregate for Parcel {
    const NAME: &'static str = "parcel";
    type Command = ParcelCommand;
    type Event = ParcelEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(
        &self,
        ParcelCommand::Pack { count }: ParcelCommand,
        _: &Context<Self>,
    ) -> Decision<Self> {
        record(ParcelEvent::Packed { count })
    }

    fn apply(&mut self, event: ParcelEvent) {
        let ParcelEvent::Packed { count } = event;
        self.count = count;
    }
}

/// Returns an app with both types.
pub(crate) fn shop(store: impl EventStore) -> App {
    let app = App::builder(store).aggregate::<Order>(()).aggregate::<Parcel>(());
    app.build().unwrap()
}

pub(crate) fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}
