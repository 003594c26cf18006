use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderError;
    type Environment = ();

    fn decide(&self, _: OrderCommand, _: &Context<Self>) -> Decision<Self> {
        OrderError::NotAllowed
    }

    fn apply(&mut self, _: OrderEvent) {
        self.placed += 1;
    }
}

fn main() {}
