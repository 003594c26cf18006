use composable_rust_core::prelude::*;

#[path = "support/shop.rs"]
mod shop;
use shop::*;

#[derive(Debug, Clone, PartialEq, Message)]
enum VisitCommand {
    Paid(u8, Reply<Payment>),
}

fn main() {
    let _: Reactions<VisitCommand> =
        effects![dispatch(&Payment::id("1"), PaymentCommand::Charge { cents: 1 })];
}
