//! Aggregates whose types have the names of other aggregates' types.

use std::convert::Infallible;

use composable_rust_core::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Currency {
    Eur,
    Usd,
}

/// Implements an aggregate whose commands change nothing.
macro_rules! aggregate {
    ($state:ident, $name:literal, $command:ident) => {
        impl Aggregate for $state {
            const NAME: &'static str = $name;
            type Command = $command;
            type Event = Infallible;
            type Rejection = Infallible;
            type Environment = ();

            fn decide(&self, _: $command, _: &Context<Self>) -> Decision<Self> {
                unchanged()
            }

            fn apply(&mut self, event: Infallible) {
                match event {}
            }
        }
    };
}

pub(crate) mod bill {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Money {
        cents: u32,
        currency: Currency,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Line {
        price: Money,
    }

    #[derive(Debug, Clone, PartialEq, Message)]
    pub(crate) enum BillCommand {
        Add { line: Line },
    }

    #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
    pub(crate) struct Bill;
    aggregate!(Bill, "bill", BillCommand);
}

pub(crate) mod invoice {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Money {
        amount: String,
        currency: Currency,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Line {
        price: Money,
    }

    #[derive(Debug, Clone, PartialEq, Message)]
    pub(crate) enum InvoiceCommand {
        Add { line: Line },
    }

    #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
    pub(crate) struct Invoice;
    aggregate!(Invoice, "invoice", InvoiceCommand);
}

pub(crate) mod refund {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Event {
        reason: String,
    }

    #[derive(Debug, Clone, PartialEq, Message)]
    pub(crate) enum RefundCommand {
        Note { event: Event },
    }

    #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
    pub(crate) struct Refund;
    aggregate!(Refund, "refund", RefundCommand);
}
