use composable_rust_core::{CallOutcome, prelude::*};

#[path = "support/shop.rs"]
mod shop;
use shop::*;

#[derive(Debug, Clone, PartialEq, Message)]
enum VisitCommand {
    Charged(u32, CallOutcome<Bank>),
}

#[derive(Debug, Clone, PartialEq, Message)]
enum WalkCommand {
    Start,
}

fn main() {
    let charge = || call::<Bank>(BankRequest::Charge { cents: 1 });
    let _: Reactions<VisitCommand> = effects![charge()];
    let _: Reactions<WalkCommand> = effects![charge()];
}
