use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

#[derive(Debug, Clone, PartialEq, Message)]
enum VisitCommand {
    Paid(Reply<Payment>, u8),
}

fn main() {}
