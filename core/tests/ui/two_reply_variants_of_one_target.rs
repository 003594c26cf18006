use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

#[derive(Debug, Clone, PartialEq, Message)]
enum VisitCommand {
    Paid(Reply<Payment>),
    Refunded(u8, Reply<Payment>),
}

type PaymentReply = Reply<Payment>;

#[derive(Debug, Clone, PartialEq, Message)]
enum AliasCommand {
    Paid(Reply<Payment>),
    #[message(reply)]
    Refunded(PaymentReply),
}

fn main() {}
