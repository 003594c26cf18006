use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

fn message() -> composable_rust_core::bus::BusMessage {
    unimplemented!()
}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderError;
    type Environment = ();

    fn decide(&self, _: OrderCommand, _: &Context<Self>) -> Decision<Self> {
        unchanged()
    }

    fn apply(&mut self, _: OrderEvent) {
        self.placed += 1;
    }

    fn react(&self, _: &OrderEvent, _: &Context<Self>) -> Reactions<OrderCommand> {
        effects![publish(message())]
    }
}

fn main() {}
