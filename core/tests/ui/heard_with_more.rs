use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

#[derive(Debug, Clone, PartialEq, Message)]
enum TaggedCommand {
    Paid(u8, Heard<Payment>),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum TwiceCommand {
    Paid(Heard<Payment>),
    Refunded(Heard<Payment>),
}

fn main() {}
