//! The parcel aggregate.

use composable_rust::Timestamp;
use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Inventory, InventoryCommand, InventoryEvent, Order};

/// The parcel of one order. An instance has the id of its order.
///
/// A parcel ships when the stock has handed its units over to the carrier. So the reply to
/// [`Ship`](ShippingCommand::Ship) follows a dispatch of the parcel's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Shipping {
    /// Not requested yet.
    #[default]
    New,
    /// Packed; waiting for the stock to hand the units over.
    Packed {
        /// The article.
        sku: Id<Inventory>,
        /// The number of units.
        units: u32,
    },
    /// On its way to the customer.
    Shipped {
        /// The article.
        sku: Id<Inventory>,
        /// The number of units.
        units: u32,
        /// The time of the shipment.
        at: Timestamp,
    },
    /// The stock did not hand the units over.
    NotInStock,
    /// Cancelled, or called back from the carrier.
    Cancelled,
}

/// The commands of a parcel. All are idempotent.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ShippingCommand {
    /// Ship the parcel.
    Ship {
        /// The article.
        sku: Id<Inventory>,
        /// The number of units.
        units: u32,
    },
    /// Cancel the parcel, or call it back. From then on it cannot be shipped, even if it was not
    /// requested yet.
    Cancel,
    /// A reply of the stock.
    Stock(Reply<Inventory>),
}

/// The events of a parcel.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ShippingEvent {
    /// The parcel was packed.
    Packed {
        /// The article.
        sku: Id<Inventory>,
        /// The number of units.
        units: u32,
    },
    /// The parcel was shipped.
    Shipped {
        /// The time of the shipment.
        at: Timestamp,
    },
    /// The stock did not hand the units over.
    NotInStock,
    /// The parcel was cancelled or called back.
    Cancelled,
}

/// The maximum number of units in a parcel.
pub const MAX_UNITS: u32 = 1_000;

/// The reasons for which a parcel rejects a command.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum ShippingRejection {
    /// The units do not fit into one parcel.
    #[error("a parcel holds at most {MAX_UNITS} units")]
    TooMany,
    /// The parcel was requested with other content before.
    #[error("there is a parcel for this order with other content")]
    OtherContent,
    /// The parcel was cancelled.
    #[error("the parcel was cancelled")]
    Cancelled,
}

use ShippingCommand::{Cancel, Ship, Stock};
use ShippingEvent as Event;
use ShippingRejection as Rejection;

impl Aggregate for Shipping {
    const NAME: &'static str = "shipping";
    type Command = ShippingCommand;
    type Event = ShippingEvent;
    type Rejection = ShippingRejection;
    type Environment = ();

    fn decide(&self, command: ShippingCommand, ctx: &Context<Self>) -> Decision<Self> {
        match (self, command) {
            (Self::Cancelled, Ship { .. }) => reject(Rejection::Cancelled),
            (_, Ship { units, .. }) if units > MAX_UNITS => reject(Rejection::TooMany),
            (Self::New, Ship { sku, units }) => record(Event::Packed { sku, units }),
            (Self::NotInStock, Ship { .. }) => repeat(Event::NotInStock),
            (Self::Packed { .. } | Self::Shipped { .. }, Ship { sku, units })
                if self.content() != Some((&sku, units)) =>
            {
                reject(Rejection::OtherContent)
            }
            (Self::Shipped { at, .. }, Ship { .. }) => repeat(Event::Shipped { at: *at }),
            (Self::Cancelled, Cancel) => repeat(Event::Cancelled),
            (_, Cancel) => record(Event::Cancelled),
            (Self::Packed { .. }, Stock(Reply::Recorded(InventoryEvent::HandedOver { .. }))) => {
                record(Event::Shipped { at: ctx.now() })
            }
            (Self::Packed { .. }, Stock(Reply::Rejected(_) | Reply::Undelivered)) => {
                record(Event::NotInStock)
            }
            // The reply of the stock is still to come, or it comes after the parcel was cancelled.
            // In that case the saga releases the units as well.
            (Self::Packed { .. }, Ship { .. }) | (_, Stock(_)) => unchanged(),
        }
    }

    fn apply(&mut self, event: ShippingEvent) {
        *self = match (std::mem::take(self), event) {
            (_, Event::Packed { sku, units }) => Self::Packed { sku, units },
            (Self::Packed { sku, units }, Event::Shipped { at }) => {
                Self::Shipped { sku, units, at }
            }
            (_, Event::NotInStock) => Self::NotInStock,
            (_, Event::Cancelled) => Self::Cancelled,
            // `decide` records no other combination.
            (state, Event::Shipped { .. }) => state,
        };
    }

    fn react(&self, event: &ShippingEvent, ctx: &Context<Self>) -> Reactions<ShippingCommand> {
        match event {
            Event::Packed { sku, .. } => {
                let order = Order::id(ctx.id().as_str());
                effects![dispatch(sku, InventoryCommand::HandOver { order })]
            }
            Event::Shipped { .. } | Event::NotInStock | Event::Cancelled => effects![],
        }
    }

    fn is_finished(&self) -> bool {
        *self == Self::Cancelled
    }
}

impl Shipping {
    fn content(&self) -> Option<(&Id<Inventory>, u32)> {
        match self {
            Self::Packed { sku, units } | Self::Shipped { sku, units, .. } => Some((sku, *units)),
            Self::New | Self::NotInStock | Self::Cancelled => None,
        }
    }
}
