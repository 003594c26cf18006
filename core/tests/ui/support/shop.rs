//! Types that the other files build on.

use composable_rust_core::prelude::*;
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
