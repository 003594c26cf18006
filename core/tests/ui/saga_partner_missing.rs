use composable_rust_core::prelude::*;
use serde::{Deserialize, Serialize};

#[path = "support/shop.rs"]
mod shop;
use shop::*;

struct Stock;

impl Target for Stock {
    const NAME: &'static str = "stock";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderError;
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Step {
    Reserve,
    Charge,
}

impl LinearSaga for Step {
    const NAME: &'static str = "checkout";
    const STEPS: &'static [Self] = &[Step::Reserve, Step::Charge];
    type Input = ();
    type Partners = (Stock,);
    type Environment = ();

    fn step(self, _: &(), _: &SagaContext<'_, Self>) -> SagaStep<Self> {
        let (stock, payment) = (Stock::id("1"), Payment::id("1"));
        match self {
            Step::Reserve => dispatch(&stock, OrderCommand::Ship).no_undo(),
            Step::Charge => dispatch(&payment, PaymentCommand::Charge { cents: 1 }).no_undo(),
        }
    }
}

fn main() {}
