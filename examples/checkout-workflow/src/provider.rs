//! The payment provider: a service outside, simulated.

use std::future::pending;
use std::io;

use composable_rust::prelude::*;
use composable_rust::{CallError, Gateway};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{Ledger, Payment};

/// A payment provider that declines, hangs and fails at given rates.
///
/// What becomes of a payment depends only on its id and the seed, so that every attempt, in every
/// process and every run, meets the same fate. Whatever it does stands in its [`Ledger`].
#[derive(Debug, Clone)]
pub struct PaymentProvider {
    /// What it has done.
    pub ledger: Ledger,
    /// How often it does not do as it is asked.
    pub rates: Rates,
    /// Chooses which payments have which fate.
    pub seed: u64,
}

/// How many of a hundred payments the provider does not charge as it is asked. The first three
/// together are at most 100; what is beyond does not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Refused.
    pub declines: u64,
    /// Never answered; half of them after the money was taken.
    pub hangs: u64,
    /// Answered with an error each time; half of them after the money was taken.
    pub failures: u64,
    /// Of those that were charged: never given back.
    pub refund_refusals: u64,
}

/// What the provider is asked.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ProviderRequest {
    /// Take the money.
    Charge {
        /// Whose.
        payment: Id<Payment>,
        /// How much.
        cents: u64,
    },
    /// Give back what was taken, and take nothing from now on.
    Refund {
        /// Whose.
        payment: Id<Payment>,
    },
}

/// What the provider answers.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ProviderResponse {
    /// It is done.
    Moved {
        /// How much money was taken, or given back.
        cents: u64,
    },
}

/// What the provider refuses with.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum ProviderFailure {
    /// It does not take the money.
    #[error("the card was declined")]
    Declined,
    /// It was told to give the money back before it took it.
    #[error("the payment was refunded before")]
    Refunded,
    /// It has the money and keeps it.
    #[error("the payment cannot be refunded")]
    NotRefundable,
}

/// An error of its own that it answers a failing payment with.
#[derive(Debug, thiserror::Error)]
#[error("503 service unavailable")]
struct Unavailable;

enum Fate {
    Charged,
    Declined,
    Hangs,
    Fails,
}

impl Gateway for PaymentProvider {
    const NAME: &'static str = "payment_provider";
    type Request = ProviderRequest;
    type Response = ProviderResponse;
    type Failure = ProviderFailure;

    async fn call(
        &self,
        request: ProviderRequest,
        key: &str,
    ) -> Result<ProviderResponse, CallError<ProviderFailure>> {
        match request {
            ProviderRequest::Charge { payment, cents } => self.charge(&payment, cents, key).await,
            ProviderRequest::Refund { payment } => self.refund(&payment, key),
        }
    }
}

impl PaymentProvider {
    async fn charge(
        &self,
        payment: &Id<Payment>,
        cents: u64,
        key: &str,
    ) -> Result<ProviderResponse, CallError<ProviderFailure>> {
        match self.fate(payment) {
            Fate::Declined => return Err(CallError::Failed(ProviderFailure::Declined)),
            Fate::Hangs | Fate::Fails if !self.takes_the_money(payment) => {}
            _ if !self.ledger.capture(payment, cents, key).map_err(broken)? => {
                return Err(CallError::Failed(ProviderFailure::Refunded));
            }
            _ => {}
        }
        match self.fate(payment) {
            Fate::Hangs => pending().await,
            Fate::Fails => Err(CallError::Retry(Box::new(Unavailable))),
            _ => Ok(ProviderResponse::Moved { cents }),
        }
    }

    fn refund(
        &self,
        payment: &Id<Payment>,
        key: &str,
    ) -> Result<ProviderResponse, CallError<ProviderFailure>> {
        let refused = self.draw(payment, "refund") % 100 < self.rates.refund_refusals;
        if refused && self.ledger.balance(payment).map_err(broken)? > 0 {
            return Err(CallError::Failed(ProviderFailure::NotRefundable));
        }
        let cents = self.ledger.refund(payment, key).map_err(broken)?;
        Ok(ProviderResponse::Moved { cents })
    }

    fn fate(&self, payment: &Id<Payment>) -> Fate {
        let Rates { declines, hangs, failures, .. } = self.rates;
        match self.draw(payment, "charge") % 100 {
            n if n < declines => Fate::Declined,
            n if n < declines + hangs => Fate::Hangs,
            n if n < declines + hangs + failures => Fate::Fails,
            _ => Fate::Charged,
        }
    }

    /// Whether a charge that is not answered takes the money all the same.
    fn takes_the_money(&self, payment: &Id<Payment>) -> bool {
        self.draw(payment, "silence") % 2 == 0
    }

    fn draw(&self, payment: &Id<Payment>, what: &str) -> u64 {
        xxh3_64_with_seed(format!("{what} {payment}").as_bytes(), self.seed)
    }
}

/// The ledger's file cannot be used: it may have been done.
fn broken(error: io::Error) -> CallError<ProviderFailure> {
    CallError::Retry(Box::new(error))
}
