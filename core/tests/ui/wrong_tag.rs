use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

#[derive(Debug, Clone, PartialEq, Message)]
enum VisitCommand {
    Paid(u8, Reply<Payment>),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum WalkCommand {
    Paid(Reply<Payment>),
}

fn main() {
    let charge = || dispatch(&Payment::id("1"), PaymentCommand::Charge { cents: 1 });
    let _: Reactions<VisitCommand> = effects![charge().tag("first")];
    let _: Reactions<WalkCommand> = effects![charge().tag(1_u8)];
}
