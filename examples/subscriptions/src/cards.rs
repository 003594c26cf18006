//! The card processor.

use std::sync::atomic::{AtomicU32, Ordering};

use composable_rust::prelude::*;
use composable_rust::{CallError, Gateway};

use crate::Money;

/// A simulated card processor. It loses every fourth response, and declines the first three charges
/// of the card `declined-3`. Its outcomes depend on the request alone, so it remembers no keys.
#[derive(Debug, Default)]
pub(crate) struct Cards(AtomicU32);

/// The requests of the processor. The number is that among the charges of a subscription.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum CardRequest {
    Charge { subscription: String, number: u32, card: String, amount: Money },
    // Refunds a charge, or makes sure that it never happens.
    Refund { subscription: String, number: u32 },
}

/// The responses of the processor.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum CardResponse {
    Done,
}

/// The refusals of the processor.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum CardFailure {
    Declined,
}

type Outcome = Result<CardResponse, CallError<CardFailure>>;

impl Gateway for Cards {
    const NAME: &'static str = "cards";
    type Request = CardRequest;
    type Response = CardResponse;
    type Failure = CardFailure;

    async fn call(&self, request: CardRequest, _: &str) -> Outcome {
        if self.0.fetch_add(1, Ordering::Relaxed) % 4 == 3 {
            return Err(CallError::Retry("no response".into()));
        }
        let CardRequest::Charge { number, card, .. } = request else {
            return Ok(CardResponse::Done);
        };
        let declined = card.strip_prefix("declined-").and_then(|charges| charges.parse().ok());
        match declined {
            Some(charges) if number <= charges => Err(CallError::Failed(CardFailure::Declined)),
            _ => Ok(CardResponse::Done),
        }
    }
}
