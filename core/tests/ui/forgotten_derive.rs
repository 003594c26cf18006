use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

#[derive(Debug, Clone, PartialEq)]
pub enum Plain {
    Happened,
}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = Plain;
    type Rejection = OrderError;
    type Environment = ();

    fn decide(&self, _: OrderCommand, _: &Context<Self>) -> Decision<Self> {
        unchanged()
    }

    fn apply(&mut self, _: Plain) {
        self.placed += 1;
    }
}

fn main() {}
