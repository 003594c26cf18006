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

#[derive(Debug, Clone, PartialEq, EventSet)]
enum OfAnother {
    Order(OrderEvent),
    Payment(OrderEvent),
}

#[derive(Debug, Clone, PartialEq, EventSet)]
enum NotInScope {
    Orders(OrderEvent),
}

#[derive(Debug, Clone, PartialEq, EventSet)]
enum Twice {
    Order(OrderEvent),
    #[event_set(of = Order)]
    Again(OrderEvent),
}

#[derive(Debug, Clone, PartialEq, Message, EventSet)]
#[event_set(Order, Payment)]
enum Misspelled {
    Placed { sku: String },
    #[message(other)]
    Other,
}

fn reads<S: EventSet>() {}

fn main() {
    reads::<OrderEvent>();
}
