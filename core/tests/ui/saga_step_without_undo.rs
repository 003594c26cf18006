use composable_rust_core::prelude::*;
use serde::{Deserialize, Serialize};

#[path = "support/shop.rs"]
mod shop;
use shop::*;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Step {
    Charge,
}

impl LinearSaga for Step {
    const NAME: &'static str = "checkout";
    const STEPS: &'static [Self] = &[Step::Charge];
    type Input = ();
    type Partners = (Payment,);
    type Environment = ();

    fn step(self, _: &(), _: &SagaContext<'_, Self>) -> SagaStep<Self> {
        match self {
            Step::Charge => dispatch(&Payment::id("1"), PaymentCommand::Charge { cents: 1 }),
        }
    }
}

fn main() {}
