//! The invoice of one month.

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Money;

/// An invoice.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Invoice {
    #[default]
    New,
    Open,
    Paid,
    Void,
}

/// The commands of an invoice.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum InvoiceCommand {
    Issue { subscription: String, amount: Money },
    Pay,
    Void,
}

/// The events of an invoice.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum InvoiceEvent {
    Issued { subscription: String, amount: Money },
    Paid,
    Voided,
}

/// The reasons for which an invoice rejects a command.
#[derive(Debug, Clone, PartialEq, Message)]
pub(crate) enum InvoiceRejection {
    /// There is no such invoice.
    #[message(status = 404)]
    Unknown,
    /// The invoice is paid.
    Paid,
    /// The invoice is void.
    Void,
}

impl Aggregate for Invoice {
    const NAME: &'static str = "invoice";
    type Command = InvoiceCommand;
    type Event = InvoiceEvent;
    type Rejection = InvoiceRejection;
    type Environment = ();

    fn decide(&self, command: InvoiceCommand, _: &Context<Self>) -> Decision<Self> {
        match (self, command) {
            (Self::New, InvoiceCommand::Issue { subscription, amount }) => {
                record(InvoiceEvent::Issued { subscription, amount })
            }
            (Self::New, _) => reject(InvoiceRejection::Unknown),
            (Self::Open, InvoiceCommand::Pay) => record(InvoiceEvent::Paid),
            (Self::Paid, InvoiceCommand::Pay) => repeat(InvoiceEvent::Paid),
            (Self::Void, InvoiceCommand::Pay) => reject(InvoiceRejection::Void),
            (Self::Open, InvoiceCommand::Void) => record(InvoiceEvent::Voided),
            (Self::Paid, InvoiceCommand::Void) => reject(InvoiceRejection::Paid),
            _ => unchanged(),
        }
    }

    fn apply(&mut self, event: InvoiceEvent) {
        *self = match event {
            InvoiceEvent::Issued { .. } => Self::Open,
            InvoiceEvent::Paid => Self::Paid,
            InvoiceEvent::Voided => Self::Void,
        };
    }
}
