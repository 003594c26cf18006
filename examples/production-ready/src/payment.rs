//! The payment aggregate, and the provider that it calls.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use composable_rust::prelude::*;
use composable_rust::{CallError, CallOutcome, Gateway};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The payment of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Payment {
    /// Not requested yet.
    #[default]
    New,
    /// Waiting for the provider.
    Pending {
        /// The amount, in cents.
        cents: u64,
    },
    /// Paid.
    Charged {
        /// The amount, in cents.
        cents: u64,
    },
    /// Declined by the provider, or never answered and refunded.
    Declined,
    /// Waiting for the provider to give back what it took.
    Refunding {
        /// `true` if the payment was cancelled; `false` if the charge was never answered.
        cancelled: bool,
    },
    /// Cancelled: the provider has none of the customer's money, and can take none.
    Cancelled,
}

/// The commands of a payment. All are idempotent.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum PaymentCommand {
    /// Charges the customer.
    Charge {
        /// The amount, in cents.
        cents: u64,
    },
    /// Refunds the customer. From then on nothing can be charged.
    Cancel,
    /// The outcome of a call to the provider.
    Provider(CallOutcome<Provider>),
}

/// The events of a payment.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum PaymentEvent {
    /// The provider was asked for money.
    ChargeRequested {
        /// The amount, in cents.
        cents: u64,
    },
    /// The customer has paid.
    Charged {
        /// The amount, in cents.
        cents: u64,
    },
    /// The customer has not paid.
    Declined,
    /// The provider was asked to give back what it took.
    RefundRequested {
        /// `true` if the payment was cancelled; `false` if the charge was never answered.
        cancelled: bool,
    },
    /// The provider has none of the customer's money.
    Cancelled,
}

/// The reasons for which a payment rejects a command.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum PaymentRejection {
    /// The payment was cancelled.
    #[error("the payment was cancelled")]
    Cancelled,
    /// Another amount was requested before.
    #[error("another amount was requested before")]
    OtherAmount,
}

use PaymentEvent as Event;

impl Aggregate for Payment {
    const NAME: &'static str = "payment";
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Rejection = PaymentRejection;
    type Environment = ();

    fn decide(&self, command: PaymentCommand, ctx: &Context<Self>) -> Decision<Self> {
        match command {
            PaymentCommand::Charge { cents } => self.charge(cents),
            PaymentCommand::Cancel => match self {
                Self::New | Self::Declined => record(Event::Cancelled),
                Self::Pending { .. }
                | Self::Charged { .. }
                | Self::Refunding { cancelled: false } => {
                    record(Event::RefundRequested { cancelled: true })
                }
                Self::Refunding { cancelled: true } => unchanged(),
                Self::Cancelled => repeat(Event::Cancelled),
            },
            PaymentCommand::Provider(outcome) => self.outcome(outcome, ctx),
        }
    }

    fn apply(&mut self, event: PaymentEvent) {
        *self = match event {
            Event::ChargeRequested { cents } => Self::Pending { cents },
            Event::Charged { cents } => Self::Charged { cents },
            Event::Declined => Self::Declined,
            Event::RefundRequested { cancelled } => Self::Refunding { cancelled },
            Event::Cancelled => Self::Cancelled,
        };
    }

    fn react(&self, event: &PaymentEvent, ctx: &Context<Self>) -> Reactions<PaymentCommand> {
        match event {
            Event::ChargeRequested { cents } => {
                let request = ProviderRequest::Charge { payment: ctx.id().clone(), cents: *cents };
                effects![call::<Provider>(request)]
            }
            Event::RefundRequested { .. } => refund(ctx),
            _ => effects![],
        }
    }

    fn is_finished(&self) -> bool {
        *self == Self::Cancelled
    }
}

impl Payment {
    fn charge(&self, cents: u64) -> Decision<Self> {
        match *self {
            Self::New => record(Event::ChargeRequested { cents }),
            Self::Pending { cents: asked } | Self::Charged { cents: asked } if asked != cents => {
                reject(PaymentRejection::OtherAmount)
            }
            Self::Pending { .. } | Self::Refunding { cancelled: false } => unchanged(),
            Self::Charged { .. } => repeat(Event::Charged { cents }),
            Self::Declined => repeat(Event::Declined),
            Self::Refunding { cancelled: true } | Self::Cancelled => {
                reject(PaymentRejection::Cancelled)
            }
        }
    }

    fn outcome(&self, outcome: CallOutcome<Provider>, ctx: &Context<Self>) -> Decision<Self> {
        use CallOutcome::{Done, Exhausted, Failed, Unstorable};
        use ProviderResponse::{Charged, Refunded};
        match (*self, outcome) {
            (Self::Pending { cents }, Done(Charged)) => record(Event::Charged { cents }),
            (Self::Pending { .. }, Failed(_))
            | (Self::Refunding { cancelled: false }, Done(Refunded)) => record(Event::Declined),
            // It is unknown if the provider took the money, so it is to give back what it took.
            (Self::Pending { .. }, Exhausted | Unstorable(_)) => {
                record(Event::RefundRequested { cancelled: false })
            }
            (Self::Refunding { cancelled: true }, Done(Refunded)) => record(Event::Cancelled),
            // A refund is requested until the provider answers.
            (Self::Refunding { .. }, Exhausted | Unstorable(_)) => unchanged().with(refund(ctx)),
            // The outcome of a charge that a refund has overtaken, or of an earlier refund.
            _ => unchanged(),
        }
    }
}

fn refund(ctx: &Context<Payment>) -> Reactions<PaymentCommand> {
    effects![call::<Provider>(ProviderRequest::Refund { payment: ctx.id().clone() })]
}

/// A simulated payment provider: slow, and with a share of declined and of failing charges. The
/// outcome of a payment depends only on its id, so that all attempts end alike.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The time that the provider takes.
    pub latency: Duration,
    /// The percentage of declined charges.
    pub declined_percent: u8,
    /// The percentage of charges that the provider never answers.
    pub failing_percent: u8,
    /// The file in which the provider notes the requests that it carries out: `charge KEY PAYMENT`
    /// or `refund KEY PAYMENT`, a line each. As a real provider's books, it is no part of a backup.
    pub ledger: Option<PathBuf>,
}

impl Provider {
    fn note(&self, request: &str, key: &str, payment: &Id<Payment>) -> std::io::Result<()> {
        let Some(path) = &self.ledger else { return Ok(()) };
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        // In one write, so that the lines of several processes are not mixed.
        file.write_all(format!("{request} {key} {}\n", payment.as_str()).as_bytes())
    }
}

/// The requests to the provider. It ignores a repeated request of the same key.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ProviderRequest {
    /// Charges the customer of a payment.
    Charge {
        /// The payment.
        payment: Id<Payment>,
        /// The amount, in cents.
        cents: u64,
    },
    /// Gives back what was taken for a payment, and takes nothing for it from then on.
    Refund {
        /// The payment.
        payment: Id<Payment>,
    },
}

/// The responses of the provider.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ProviderResponse {
    /// The customer has paid.
    Charged,
    /// The provider has none of the customer's money.
    Refunded,
}

/// The refusals of the provider.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum ProviderFailure {
    /// The card was declined.
    #[error("the card was declined")]
    Declined,
}

/// The error of a charge that the provider does not answer.
#[derive(Debug, thiserror::Error)]
#[error("503 service unavailable")]
struct Unavailable;

impl Gateway for Provider {
    const NAME: &'static str = "provider";
    type Request = ProviderRequest;
    type Response = ProviderResponse;
    type Failure = ProviderFailure;

    async fn call(
        &self,
        request: ProviderRequest,
        key: &str,
    ) -> Result<ProviderResponse, CallError<ProviderFailure>> {
        tokio::time::sleep(self.latency).await;
        let noted = |request, payment| {
            self.note(request, key, payment).map_err(|error| CallError::Retry(Box::new(error)))
        };
        match request {
            ProviderRequest::Refund { payment } => {
                noted("refund", &payment)?;
                Ok(ProviderResponse::Refunded)
            }
            ProviderRequest::Charge { payment, .. } => {
                let draw = xxh3_64(payment.as_str().as_bytes()) % 100;
                let declined = u64::from(self.declined_percent);
                if draw < declined {
                    Err(CallError::Failed(ProviderFailure::Declined))
                } else if draw < declined + u64::from(self.failing_percent) {
                    Err(CallError::Retry(Box::new(Unavailable)))
                } else {
                    noted("charge", &payment)?;
                    Ok(ProviderResponse::Charged)
                }
            }
        }
    }
}
