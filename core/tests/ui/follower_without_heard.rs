use composable_rust_core::message::Hears;
use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

impl Target for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderError;
}

// The bounds of the builder's method of this name.
fn follows<S: Target, T: Target<Command: Hears<S>>>(_: &str) {}

fn main() {
    follows::<Payment, Order>("order");
}
