use composable_rust_core::prelude::*;
use composable_rust_core::{CallError, Gateway};
use serde::{Deserialize, Serialize};

#[path = "support/shop.rs"]
mod shop;
use shop::*;

struct Bank;

impl Gateway for Bank {
    const NAME: &'static str = "bank";
    type Request = PaymentCommand;
    type Response = PaymentEvent;
    type Failure = PaymentError;

    async fn call(&self, _: PaymentCommand, _: &str) -> Result<PaymentEvent, CallError<PaymentError>> {
        Ok(PaymentEvent::Charged { cents: 1 })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Step {
    Charge,
}

impl LinearSaga for Step {
    const NAME: &'static str = "checkout";
    const STEPS: &'static [Self] = &[Step::Charge];
    type Input = ();
    type Partners = (Bank,);
    type Environment = ();

    fn step(self, _: &(), _: &SagaContext<'_, Self>) -> SagaStep<Self> {
        call::<Bank>(PaymentCommand::Charge { cents: 1 }).no_undo()
    }
}

fn main() {}
