//! A simulated payment provider: an external service.

use std::future::pending;
use std::io;

use composable_rust::prelude::*;
use composable_rust::{CallError, Gateway};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{Ledger, Payment};

/// A payment provider that declines, hangs and fails at given rates.
///
/// The outcome of a payment depends only on its id and the seed, so all attempts, in all processes
/// and runs, have the same outcome. The provider records everything that it does in its
/// [`Ledger`].
#[derive(Debug, Clone)]
pub struct PaymentProvider {
    /// The record of everything that the provider does.
    pub ledger: Ledger,
    /// The rates at which payments fail.
    pub rates: Rates,
    /// The seed that selects the payments which fail.
    pub seed: u64,
}

/// The percentages of payments that fail.
///
/// `declines`, `hangs` and `failures` together are at most 100; the excess is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Payments that are declined.
    pub declines: u64,
    /// Payments that are never answered. Half of them are captured.
    pub hangs: u64,
    /// Payments that are answered with an error each time. Half of them are captured.
    pub failures: u64,
    /// Captured payments that are never refunded.
    pub refund_refusals: u64,
}

/// The requests to the provider.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ProviderRequest {
    /// Take the money.
    Charge {
        /// The payment.
        payment: Id<Payment>,
        /// The amount, in cents.
        cents: u64,
    },
    /// Give back what was taken, and take nothing from then on.
    Refund {
        /// The payment.
        payment: Id<Payment>,
    },
}

/// The response of the provider.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ProviderResponse {
    /// The request was carried out.
    Moved {
        /// The amount that was taken or given back, in cents.
        cents: u64,
    },
}

/// The reasons for which the provider refuses a request.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum ProviderFailure {
    /// The card was declined.
    #[error("the card was declined")]
    Declined,
    /// The payment was refunded before it was charged.
    #[error("the payment was refunded before")]
    Refunded,
    /// The provider keeps the money.
    #[error("the payment cannot be refunded")]
    NotRefundable,
}

/// The error that a failing payment is answered with.
#[derive(Debug, thiserror::Error)]
#[error("503 service unavailable")]
struct Unavailable;

/// The outcome that the seed assigns to a payment.
enum SimulatedOutcome {
    Charges,
    Declines,
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
        match self.outcome(payment) {
            SimulatedOutcome::Declines => return Err(CallError::Failed(ProviderFailure::Declined)),
            SimulatedOutcome::Hangs | SimulatedOutcome::Fails
                if !self.captures_unanswered(payment) => {}
            _ if !self.ledger.capture(payment, cents, key).map_err(ledger_error)? => {
                return Err(CallError::Failed(ProviderFailure::Refunded));
            }
            _ => {}
        }
        match self.outcome(payment) {
            SimulatedOutcome::Hangs => pending().await,
            SimulatedOutcome::Fails => Err(CallError::Retry(Box::new(Unavailable))),
            _ => Ok(ProviderResponse::Moved { cents }),
        }
    }

    fn refund(
        &self,
        payment: &Id<Payment>,
        key: &str,
    ) -> Result<ProviderResponse, CallError<ProviderFailure>> {
        let refused = self.draw(payment, "refund") % 100 < self.rates.refund_refusals;
        if refused && self.ledger.balance(payment).map_err(ledger_error)? > 0 {
            return Err(CallError::Failed(ProviderFailure::NotRefundable));
        }
        let cents = self.ledger.refund(payment, key).map_err(ledger_error)?;
        Ok(ProviderResponse::Moved { cents })
    }

    fn outcome(&self, payment: &Id<Payment>) -> SimulatedOutcome {
        let Rates { declines, hangs, failures, .. } = self.rates;
        match self.draw(payment, "charge") % 100 {
            n if n < declines => SimulatedOutcome::Declines,
            n if n < declines + hangs => SimulatedOutcome::Hangs,
            n if n < declines + hangs + failures => SimulatedOutcome::Fails,
            _ => SimulatedOutcome::Charges,
        }
    }

    /// `true` if a charge that is not answered takes the money.
    fn captures_unanswered(&self, payment: &Id<Payment>) -> bool {
        self.draw(payment, "silence") % 2 == 0
    }

    /// Returns a pseudorandom number for a payment, which is the same each time.
    fn draw(&self, payment: &Id<Payment>, salt: &str) -> u64 {
        xxh3_64_with_seed(format!("{salt} {payment}").as_bytes(), self.seed)
    }
}

/// The ledger's file cannot be read or written. The entry may have been written, so retry.
fn ledger_error(error: io::Error) -> CallError<ProviderFailure> {
    CallError::Retry(Box::new(error))
}
