use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

#[derive(Debug, Clone, PartialEq, EventSet)]
struct NotAnEnum;

#[derive(Debug, Clone, PartialEq, EventSet)]
enum WithFields {
    Order { sku: String },
    Payment,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum OtherWithFields {
    #[message(other)]
    Other(String),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum TwoOthers {
    #[message(other)]
    Other,
    #[message(other)]
    Another,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum NamedOther {
    #[message(other, name = "other")]
    Other,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum OtherWithReplies {
    Paid(Reply<Payment>),
    Heard(Heard<Payment>),
    #[message(other)]
    Other,
}

fn main() {}
