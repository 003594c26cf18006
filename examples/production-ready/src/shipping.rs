//! The parcel aggregate.

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

/// The maximum number of units in a parcel.
pub const MAX_UNITS: u32 = 100;

/// The parcel of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Parcel {
    /// Not requested yet.
    #[default]
    New,
    /// On its way to the customer.
    Shipped,
    /// Cancelled, or called back.
    Cancelled,
}

/// The commands of a parcel. All are idempotent.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ParcelCommand {
    /// Ships the parcel.
    Ship {
        /// The article.
        sku: String,
        /// The number of units.
        units: u32,
    },
    /// Calls the parcel back. From then on it cannot be shipped.
    Cancel,
}

/// The events of a parcel.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ParcelEvent {
    /// The parcel was shipped.
    Shipped {
        /// The article.
        sku: String,
        /// The number of units.
        units: u32,
    },
    /// The parcel was cancelled or called back.
    Cancelled,
}

/// The reasons for which a parcel rejects a command.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum ParcelRejection {
    /// The units do not fit into one parcel.
    #[error("a parcel holds at most {MAX_UNITS} units")]
    TooMany,
    /// The parcel was cancelled.
    #[error("the parcel was cancelled")]
    Cancelled,
}

impl Aggregate for Parcel {
    const NAME: &'static str = "parcel";
    type Command = ParcelCommand;
    type Event = ParcelEvent;
    type Rejection = ParcelRejection;
    type Environment = ();

    fn decide(&self, command: ParcelCommand, _: &Context<Self>) -> Decision<Self> {
        match (self, command) {
            (Self::Cancelled, ParcelCommand::Ship { .. }) => reject(ParcelRejection::Cancelled),
            (_, ParcelCommand::Ship { units, .. }) if units > MAX_UNITS => {
                reject(ParcelRejection::TooMany)
            }
            (Self::New, ParcelCommand::Ship { sku, units }) => {
                record(ParcelEvent::Shipped { sku, units })
            }
            (Self::Shipped, ParcelCommand::Ship { sku, units }) => {
                repeat(ParcelEvent::Shipped { sku, units })
            }
            (Self::Cancelled, ParcelCommand::Cancel) => repeat(ParcelEvent::Cancelled),
            (_, ParcelCommand::Cancel) => record(ParcelEvent::Cancelled),
        }
    }

    fn apply(&mut self, event: ParcelEvent) {
        *self = match event {
            ParcelEvent::Shipped { .. } => Self::Shipped,
            ParcelEvent::Cancelled => Self::Cancelled,
        };
    }

    fn is_finished(&self) -> bool {
        *self == Self::Cancelled
    }
}
