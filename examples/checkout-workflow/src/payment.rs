//! The payment aggregate.

use composable_rust::CallOutcome;
use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{PaymentProvider, ProviderRequest, ProviderResponse};

/// The payment of one order. An instance has the id of its order.
///
/// A payment always ends with a known amount: the full price ([`Charged`](Payment::Charged)),
/// nothing, or the amount that the provider refuses to refund
/// ([`NotRefunded`](Payment::NotRefunded)).
///
/// While a charge is in progress, nothing can tell if the provider has taken the money or will
/// take it later. So cancelling does not wait for the charge: it requests a refund, which gives
/// back what was taken and prevents a later capture.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Payment {
    /// Not requested yet.
    #[default]
    New,
    /// Waiting for the provider to charge the customer.
    Pending {
        /// The amount, in cents.
        cents: u64,
    },
    /// Paid.
    Charged {
        /// The amount, in cents.
        cents: u64,
    },
    /// Declined by the provider.
    Declined,
    /// The provider never answered the charge, and has refunded what it took.
    Failed,
    /// Waiting for the provider to refund what it took.
    Refunding {
        /// The amount of the charge, in cents.
        cents: u64,
        /// The reason for the refund.
        purpose: Purpose,
    },
    /// Cancelled: the provider has none of the customer's money, and can take none.
    Cancelled {
        /// The refunded amount, in cents: 0 if nothing had been taken.
        refunded: u64,
    },
    /// Cancelled, but the provider refuses the refund. A person has to act.
    NotRefunded,
}

/// The reason for a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The provider did not outcome the charge.
    Unanswered,
    /// The payment was cancelled.
    Cancel,
}

/// The commands of a payment. All are idempotent.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum PaymentCommand {
    /// Charge the customer.
    Charge {
        /// The amount, in cents.
        cents: u64,
    },
    /// Refund the customer. From then on nothing can be charged, even if nothing was charged yet.
    Cancel,
    /// The outcome of a call to the provider: of a charge, or of a refund with its purpose.
    Provider(Option<Purpose>, CallOutcome<PaymentProvider>),
}

/// The events of a payment.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum PaymentEvent {
    /// The provider was asked to charge the customer.
    ChargeRequested {
        /// The amount, in cents.
        cents: u64,
    },
    /// The customer has paid.
    Charged {
        /// The amount, in cents.
        cents: u64,
    },
    /// The provider declined the charge.
    Declined,
    /// The provider was asked to refund what it took.
    RefundRequested {
        /// The reason for the refund.
        purpose: Purpose,
    },
    /// The provider never answered the charge, and has refunded what it took.
    Failed,
    /// The provider has none of the customer's money, and can take none.
    Cancelled {
        /// The refunded amount, in cents.
        refunded: u64,
    },
    /// The provider refused the refund.
    NotRefunded,
}

/// The reasons for which a payment rejects a command.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum PaymentRejection {
    /// The amount is 0.
    #[error("at least one cent is needed")]
    NoAmount,
    /// Another amount was requested before.
    #[error("a payment of {cents} cents was requested before")]
    OtherAmount {
        /// The amount requested before, in cents.
        cents: u64,
    },
    /// The payment was cancelled.
    #[error("the payment was cancelled")]
    Cancelled,
}

use PaymentCommand::{Cancel, Charge, Provider};
use PaymentEvent as Event;
use PaymentRejection as Rejection;

impl Aggregate for Payment {
    const NAME: &'static str = "payment";
    type Command = PaymentCommand;
    type Event = PaymentEvent;
    type Rejection = PaymentRejection;
    type Environment = ();

    fn decide(&self, command: PaymentCommand, ctx: &Context<Self>) -> Decision<Self> {
        match command {
            Charge { cents } => self.charge(cents),
            Cancel => self.cancel(),
            Provider(None, outcome) => self.charge_outcome(outcome),
            Provider(Some(purpose), outcome) => self.refund_outcome(purpose, outcome, ctx),
        }
    }

    fn apply(&mut self, event: PaymentEvent) {
        *self = match (std::mem::take(self), event) {
            (_, Event::ChargeRequested { cents }) => Self::Pending { cents },
            (_, Event::Charged { cents }) => Self::Charged { cents },
            (_, Event::Declined) => Self::Declined,
            (
                Self::Pending { cents } | Self::Charged { cents } | Self::Refunding { cents, .. },
                Event::RefundRequested { purpose },
            ) => Self::Refunding { cents, purpose },
            (_, Event::Failed) => Self::Failed,
            (_, Event::Cancelled { refunded }) => Self::Cancelled { refunded },
            (_, Event::NotRefunded) => Self::NotRefunded,
            // `decide` records no other combination.
            (state, Event::RefundRequested { .. }) => state,
        };
    }

    fn react(&self, event: &PaymentEvent, ctx: &Context<Self>) -> Reactions<PaymentCommand> {
        match event {
            Event::ChargeRequested { cents } => {
                let request = ProviderRequest::Charge { payment: ctx.id().clone(), cents: *cents };
                effects![call::<PaymentProvider>(request).tag(None)]
            }
            Event::RefundRequested { purpose } => refund(ctx, *purpose),
            _ => effects![],
        }
    }

    fn is_finished(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }
}

impl Payment {
    fn charge(&self, cents: u64) -> Decision<Self> {
        match self {
            _ if cents == 0 => reject(Rejection::NoAmount),
            Self::New => record(Event::ChargeRequested { cents }),
            Self::Pending { cents: requested } | Self::Charged { cents: requested }
                if *requested != cents =>
            {
                reject(Rejection::OtherAmount { cents: *requested })
            }
            // The outcome of the first request is still to come.
            Self::Pending { .. } | Self::Refunding { purpose: Purpose::Unanswered, .. } => {
                unchanged()
            }
            Self::Charged { .. } => repeat(Event::Charged { cents }),
            Self::Declined => repeat(Event::Declined),
            Self::Failed => repeat(Event::Failed),
            Self::Refunding { purpose: Purpose::Cancel, .. }
            | Self::Cancelled { .. }
            | Self::NotRefunded => reject(Rejection::Cancelled),
        }
    }

    /// Requests a refund, also if one for an unanswered charge is in progress: that one's outcome
    /// answers the sender of the charge, and the new one's the sender of the cancellation.
    fn cancel(&self) -> Decision<Self> {
        match self {
            Self::New | Self::Declined | Self::Failed => record(Event::Cancelled { refunded: 0 }),
            Self::Pending { .. }
            | Self::Charged { .. }
            | Self::Refunding { purpose: Purpose::Unanswered, .. } => {
                record(Event::RefundRequested { purpose: Purpose::Cancel })
            }
            Self::Refunding { purpose: Purpose::Cancel, .. } => unchanged(),
            Self::Cancelled { refunded } => repeat(Event::Cancelled { refunded: *refunded }),
            Self::NotRefunded => repeat(Event::NotRefunded),
        }
    }

    fn charge_outcome(&self, outcome: CallOutcome<PaymentProvider>) -> Decision<Self> {
        match (self, outcome) {
            (Self::Pending { cents }, CallOutcome::Done(_)) => {
                record(Event::Charged { cents: *cents })
            }
            (Self::Pending { .. }, CallOutcome::Failed(_)) => record(Event::Declined),
            (Self::Pending { .. }, CallOutcome::Exhausted | CallOutcome::Unstorable(_)) => {
                record(Event::RefundRequested { purpose: Purpose::Unanswered })
            }
            // A refund has been requested in the meantime and covers the charge.
            _ => unchanged(),
        }
    }

    fn refund_outcome(
        &self,
        purpose: Purpose,
        outcome: CallOutcome<PaymentProvider>,
        ctx: &Context<Self>,
    ) -> Decision<Self> {
        match (self, outcome) {
            (Self::Refunding { purpose: current, .. }, _) if *current != purpose => unchanged(),
            // Repeat the refund until the provider answers.
            (Self::Refunding { .. }, CallOutcome::Exhausted | CallOutcome::Unstorable(_)) => {
                unchanged().with(refund(ctx, purpose))
            }
            (Self::Refunding { cents, .. }, outcome) => match (purpose, outcome) {
                (Purpose::Unanswered, CallOutcome::Done(_)) => record(Event::Failed),
                // The provider refuses to refund what it has, so the charge succeeded.
                (Purpose::Unanswered, _) => record(Event::Charged { cents: *cents }),
                (
                    Purpose::Cancel,
                    CallOutcome::Done(ProviderResponse::Moved { cents: refunded }),
                ) => record(Event::Cancelled { refunded }),
                (Purpose::Cancel, _) => record(Event::NotRefunded),
            },
            _ => unchanged(),
        }
    }
}

/// Requests a refund. The outcome comes back with the purpose as its tag.
fn refund(ctx: &Context<Payment>, purpose: Purpose) -> Reactions<PaymentCommand> {
    let request = ProviderRequest::Refund { payment: ctx.id().clone() };
    effects![call::<PaymentProvider>(request).tag(Some(purpose))]
}
