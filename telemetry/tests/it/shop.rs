//! A shop that asks another service for payment, and reminds of the order a day later.

use std::time::Duration;

use composable_rust_core::prelude::*;
use composable_rust_core::{CallError, CallOutcome, Gateway, Reply};
use serde::{Deserialize, Serialize};

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) is_paid: bool,
    pub(crate) is_reminded: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderCommand {
    Place,
    Paid(Reply<Payment>),
    #[message(internal)]
    Remind,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum OrderEvent {
    Placed,
    Accepted,
    Reminded,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum Never {}

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = Never;
    type Environment = ();

    fn decide(&self, command: OrderCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            OrderCommand::Place => {
                tracing::info!(sku = "tea", "placing an order");
                record(OrderEvent::Placed)
            }
            OrderCommand::Paid(Reply::Recorded(_)) => record(OrderEvent::Accepted),
            OrderCommand::Paid(_) => unchanged(),
            OrderCommand::Remind => record(OrderEvent::Reminded),
        }
    }

    fn apply(&mut self, event: OrderEvent) {
        match event {
            OrderEvent::Placed => {}
            OrderEvent::Accepted => self.is_paid = true,
            OrderEvent::Reminded => self.is_reminded = true,
        }
    }

    fn react(&self, event: &OrderEvent, ctx: &Context<Self>) -> Reactions<OrderCommand> {
        match event {
            OrderEvent::Placed => {
                effects![dispatch(&Payment::id(ctx.id().as_str()), PaymentCommand::Charge)]
            }
            OrderEvent::Accepted => effects![after(DAY, OrderCommand::Remind)],
            OrderEvent::Reminded => effects![],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) is_done: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum PaymentCommand {
    Charge,
    Answered(CallOutcome<Bank>),
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum PaymentEvent {
    Asked,
    Charged,
}

impl Aggregate for Payment {
    const NAME: &'static str = "payment";
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Rejection = Never;
    type Environment = ();

    fn decide(&self, command: PaymentCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            PaymentCommand::Charge => record(PaymentEvent::Asked),
            PaymentCommand::Answered(_) => record(PaymentEvent::Charged),
        }
    }

    fn apply(&mut self, event: PaymentEvent) {
        self.is_done = event == PaymentEvent::Charged;
    }

    fn react(&self, event: &PaymentEvent, _: &Context<Self>) -> Reactions<PaymentCommand> {
        match event {
            PaymentEvent::Asked => effects![call::<Bank>(BankRequest::Charge)],
            PaymentEvent::Charged => effects![],
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Bank;

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum BankRequest {
    Charge,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum BankResponse {
    Charged,
}

impl Gateway for Bank {
    const NAME: &'static str = "bank";
    type Request = BankRequest;
    type Response = BankResponse;
    type Failure = Never;

    async fn call(&self, _: BankRequest, _: &str) -> Result<BankResponse, CallError<Never>> {
        tracing::info!("charging");
        Ok(BankResponse::Charged)
    }
}
