//! The payment of one order.

use composable_rust::CallOutcome;
use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{PaymentProvider, ProviderRequest, ProviderResponse};

/// The payment of one order; the instance's id is the order's.
///
/// Whatever happens, it ends by holding exactly what was charged ([`Charged`](Payment::Charged)),
/// nothing, or what the provider refuses to give back ([`NotRefunded`](Payment::NotRefunded)).
/// Nobody can know whether a charge that is under way has taken the money, or will. So taking it
/// back does not wait for it: the provider is asked for a refund, which gives back what was taken
/// and keeps anything from being taken later.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Payment {
    /// Nothing is to be paid yet.
    #[default]
    New,
    /// The provider is asked to charge.
    Pending {
        /// How much.
        cents: u64,
    },
    /// Paid.
    Charged {
        /// How much.
        cents: u64,
    },
    /// The provider has refused to charge.
    Declined,
    /// The provider never answered, and has given back whatever it took.
    Failed,
    /// The provider is asked to give back whatever it took.
    Refunding {
        /// What was to be charged.
        cents: u64,
        /// Why.
        purpose: Purpose,
    },
    /// Cancelled; nothing is held, and nothing can be charged from now on.
    Cancelled {
        /// How much was given back: 0 if nothing had been taken.
        refunded: u64,
    },
    /// Cancelled, and the provider refuses to give the money back: a person has to.
    NotRefunded,
}

/// Why a refund is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The charge ended without an answer.
    Unanswered,
    /// It was told to cancel.
    Cancel,
}

/// What a payment is asked. Asking the same again is harmless.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum PaymentCommand {
    /// Charge the customer.
    Charge {
        /// How much.
        cents: u64,
    },
    /// Give everything back. What was not charged yet cannot be charged from then on.
    Cancel,
    /// What the provider answers; with the purpose if a refund was asked for.
    Provider(Option<Purpose>, CallOutcome<PaymentProvider>),
}

/// What happens to a payment.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum PaymentEvent {
    /// The provider is asked to charge.
    ChargeRequested {
        /// How much.
        cents: u64,
    },
    /// The customer has paid.
    Charged {
        /// How much.
        cents: u64,
    },
    /// The provider refused to charge.
    Declined,
    /// The provider is asked to give back whatever it took.
    RefundRequested {
        /// Why.
        purpose: Purpose,
    },
    /// The provider never answered the charge, and has given back whatever it took.
    Failed,
    /// Nothing is held, and nothing can be charged from now on.
    Cancelled {
        /// How much was given back.
        refunded: u64,
    },
    /// The provider refuses to give the money back.
    NotRefunded,
}

/// Why a payment refuses.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum PaymentRejection {
    /// Nothing is to be paid.
    #[error("at least one cent is needed")]
    NoAmount,
    /// It was asked for another amount before.
    #[error("{cents} cents are asked for already")]
    OtherAmount {
        /// How much.
        cents: u64,
    },
    /// It is cancelled.
    #[error("it was cancelled")]
    Cancelled,
}

use PaymentCommand::{Cancel, Charge, Provider};
use PaymentEvent as Out;
use PaymentRejection as No;

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
            Provider(None, answer) => self.charge_answered(answer),
            Provider(Some(purpose), answer) => self.refund_answered(purpose, answer, ctx),
        }
    }

    fn apply(&mut self, event: PaymentEvent) {
        *self = match (std::mem::take(self), event) {
            (_, Out::ChargeRequested { cents }) => Self::Pending { cents },
            (_, Out::Charged { cents }) => Self::Charged { cents },
            (_, Out::Declined) => Self::Declined,
            (
                Self::Pending { cents } | Self::Charged { cents } | Self::Refunding { cents, .. },
                Out::RefundRequested { purpose },
            ) => Self::Refunding { cents, purpose },
            (_, Out::Failed) => Self::Failed,
            (_, Out::Cancelled { refunded }) => Self::Cancelled { refunded },
            (_, Out::NotRefunded) => Self::NotRefunded,
            // No decision records another.
            (state, Out::RefundRequested { .. }) => state,
        };
    }

    fn react(&self, event: &PaymentEvent, ctx: &Context<Self>) -> Reactions<PaymentCommand> {
        match event {
            Out::ChargeRequested { cents } => {
                let request = ProviderRequest::Charge { payment: ctx.id().clone(), cents: *cents };
                effects![call::<PaymentProvider>(request).tag(None)]
            }
            Out::RefundRequested { purpose } => refund(ctx, *purpose),
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
            _ if cents == 0 => reject(No::NoAmount),
            Self::New => record(Out::ChargeRequested { cents }),
            Self::Pending { cents: asked } | Self::Charged { cents: asked } if *asked != cents => {
                reject(No::OtherAmount { cents: *asked })
            }
            // The answer to the first asking is on its way.
            Self::Pending { .. } | Self::Refunding { purpose: Purpose::Unanswered, .. } => {
                unchanged()
            }
            Self::Charged { .. } => repeat(Out::Charged { cents }),
            Self::Declined => repeat(Out::Declined),
            Self::Failed => repeat(Out::Failed),
            Self::Refunding { purpose: Purpose::Cancel, .. }
            | Self::Cancelled { .. }
            | Self::NotRefunded => reject(No::Cancelled),
        }
    }

    /// A refund that is under way for another purpose is asked for again: its answer goes to
    /// whoever wanted the charge, and this one's to whoever cancels.
    fn cancel(&self) -> Decision<Self> {
        match self {
            Self::New | Self::Declined | Self::Failed => record(Out::Cancelled { refunded: 0 }),
            Self::Pending { .. }
            | Self::Charged { .. }
            | Self::Refunding { purpose: Purpose::Unanswered, .. } => {
                record(Out::RefundRequested { purpose: Purpose::Cancel })
            }
            Self::Refunding { purpose: Purpose::Cancel, .. } => unchanged(),
            Self::Cancelled { refunded } => repeat(Out::Cancelled { refunded: *refunded }),
            Self::NotRefunded => repeat(Out::NotRefunded),
        }
    }

    fn charge_answered(&self, answer: CallOutcome<PaymentProvider>) -> Decision<Self> {
        match (self, answer) {
            (Self::Pending { cents }, CallOutcome::Done(_)) => {
                record(Out::Charged { cents: *cents })
            }
            (Self::Pending { .. }, CallOutcome::Failed(_)) => record(Out::Declined),
            (Self::Pending { .. }, CallOutcome::Exhausted | CallOutcome::Unstorable(_)) => {
                record(Out::RefundRequested { purpose: Purpose::Unanswered })
            }
            // The refund that was asked for meanwhile covers it.
            _ => unchanged(),
        }
    }

    fn refund_answered(
        &self,
        purpose: Purpose,
        answer: CallOutcome<PaymentProvider>,
        ctx: &Context<Self>,
    ) -> Decision<Self> {
        match (self, answer) {
            (Self::Refunding { purpose: current, .. }, _) if *current != purpose => unchanged(),
            // Asked again until the provider says what became of the money.
            (Self::Refunding { .. }, CallOutcome::Exhausted | CallOutcome::Unstorable(_)) => {
                unchanged().with(refund(ctx, purpose))
            }
            (Self::Refunding { cents, .. }, answer) => match (purpose, answer) {
                (Purpose::Unanswered, CallOutcome::Done(_)) => record(Out::Failed),
                // It refuses to give back what it has: so the charge went through.
                (Purpose::Unanswered, _) => record(Out::Charged { cents: *cents }),
                (
                    Purpose::Cancel,
                    CallOutcome::Done(ProviderResponse::Moved { cents: refunded }),
                ) => record(Out::Cancelled { refunded }),
                (Purpose::Cancel, _) => record(Out::NotRefunded),
            },
            _ => unchanged(),
        }
    }
}

/// Asks for a refund; the answer comes back with the purpose.
fn refund(ctx: &Context<Payment>, purpose: Purpose) -> Reactions<PaymentCommand> {
    let request = ProviderRequest::Refund { payment: ctx.id().clone() };
    effects![call::<PaymentProvider>(request).tag(Some(purpose))]
}
