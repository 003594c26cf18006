//! Types that the other files build on.

use composable_rust_core::prelude::*;
use composable_rust_core::{CallError, Gateway};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Message)]
pub enum PaymentCommand {
    Charge { cents: u64 },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub enum PaymentEvent {
    Charged { cents: u64 },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub enum PaymentError {
    Declined,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Payment;

impl Target for Payment {
    const NAME: &'static str = "payment";
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Rejection = PaymentError;
}

#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderCommand {
    Place { sku: String },
    Ship,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderEvent {
    Placed { sku: String },
    Shipped,
}

#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderError {
    NotAllowed,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Order {
    pub placed: u32,
}

pub struct Bank;

#[derive(Debug, Clone, PartialEq, Message)]
pub enum BankRequest {
    Charge { cents: u64 },
}

#[derive(Debug, Clone, PartialEq, Message)]
pub enum BankResponse {
    Charged,
}

impl Gateway for Bank {
    const NAME: &'static str = "bank";
    type Request = BankRequest;
    type Response = BankResponse;
    type Failure = std::convert::Infallible;

    async fn call(
        &self,
        _: BankRequest,
        _: &str,
    ) -> Result<BankResponse, CallError<std::convert::Infallible>> {
        Ok(BankResponse::Charged)
    }
}
