//! The payment of one order.

use composable_rust::Answer;
use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{PaymentProvider, ProviderRequest, ProviderResponse};

/// The payment of one order; the instance's id is the order's.
///
/// Whatever happens, it ends by holding exactly what was charged ([`Charged`](Payment::Charged)),
/// nothing, or what the provider refuses to give back ([`RefundRefused`](Payment::RefundRefused)).
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
        /// Why.
        purpose: Purpose,
    },
    /// Cancelled; nothing is held, and nothing can be charged from now on.
    Cancelled {
        /// How much was given back: 0 if nothing had been taken.
        refunded: u64,
    },
    /// Cancelled, and the provider refuses to give the money back: a person has to.
    RefundRefused,
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
    Provider(Option<Purpose>, Answer<PaymentProvider>),
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
    RefundRefused,
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
        *self = match event {
            Out::ChargeRequested { cents } => Self::Pending { cents },
            Out::Charged { cents } => Self::Charged { cents },
            Out::Declined => Self::Declined,
            Out::RefundRequested { purpose, .. } => Self::Refunding { purpose },
            Out::Failed => Self::Failed,
            Out::Cancelled { refunded } => Self::Cancelled { refunded },
            Out::RefundRefused => Self::RefundRefused,
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
}
