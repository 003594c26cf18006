//! The parcel of one order.

use composable_rust::Timestamp;
use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Inventory, InventoryCommand, InventoryEvent, Order};

/// The parcel of one order; the instance's id is the order's.
///
/// It has left when the stock has handed the pieces over. So its answer to
/// [`Ship`](ShippingCommand::Ship) comes after a dispatch of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Shipping {
    /// Nothing is to be sent yet.
    #[default]
    New,
    /// Packed; the stock is asked for the pieces.
    Packed {
        /// The article.
        sku: Id<Inventory>,
        /// How many pieces.
        units: u32,
    },
    /// On its way.
    Shipped {
        /// The article.
        sku: Id<Inventory>,
        /// How many pieces.
        units: u32,
        /// When it left.
        at: Timestamp,
    },
    /// The stock has no pieces for it.
    NotInStock,
    /// Cancelled, or called back from the carrier.
    Cancelled,
}

/// What a parcel is asked. Asking the same again is harmless.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ShippingCommand {
    /// Send it.
    Ship {
        /// The article.
        sku: Id<Inventory>,
        /// How many pieces.
        units: u32,
    },
    /// Do not send it, or call it back. What was not asked for yet cannot be sent from then on.
    Cancel,
    /// What the stock answers.
    Stock(Reply<Inventory>),
}

/// What happens to a parcel.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum ShippingEvent {
    /// It was packed.
    Packed {
        /// The article.
        sku: Id<Inventory>,
        /// How many pieces.
        units: u32,
    },
    /// It left.
    Shipped {
        /// When.
        at: Timestamp,
    },
    /// The stock refused to hand the pieces over.
    NotInStock,
    /// It was cancelled or called back.
    Cancelled,
}

/// The most pieces that go into one parcel.
pub const MOST_UNITS: u32 = 1_000;

/// Why a parcel refuses.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum ShippingRejection {
    /// They do not fit.
    #[error("a parcel holds at most {MOST_UNITS} units")]
    TooMany,
    /// It was asked for otherwise before.
    #[error("there is a parcel for this order with another content")]
    OtherContent,
    /// It is cancelled.
    #[error("it was cancelled")]
    Cancelled,
}

use ShippingCommand::{Cancel, Ship, Stock};
use ShippingEvent as Out;
use ShippingRejection as No;

impl Aggregate for Shipping {
    const NAME: &'static str = "shipping";
    type Command = ShippingCommand;
    type Event = ShippingEvent;
    type Rejection = ShippingRejection;
    type Environment = ();

    fn decide(&self, command: ShippingCommand, ctx: &Context<Self>) -> Decision<Self> {
        match (self, command) {
            (Self::Cancelled, Ship { .. }) => reject(No::Cancelled),
            (_, Ship { units, .. }) if units > MOST_UNITS => reject(No::TooMany),
            (Self::New, Ship { sku, units }) => record(Out::Packed { sku, units }),
            (Self::NotInStock, Ship { .. }) => repeat(Out::NotInStock),
            (Self::Packed { .. } | Self::Shipped { .. }, Ship { sku, units })
                if self.content() != Some((&sku, units)) =>
            {
                reject(No::OtherContent)
            }
            (Self::Shipped { at, .. }, Ship { .. }) => repeat(Out::Shipped { at: *at }),
            (Self::Cancelled, Cancel) => repeat(Out::Cancelled),
            (_, Cancel) => record(Out::Cancelled),
            (Self::Packed { .. }, Stock(Reply::Recorded(InventoryEvent::HandedOver { .. }))) => {
                record(Out::Shipped { at: ctx.now() })
            }
            (Self::Packed { .. }, Stock(Reply::Rejected(_) | Reply::Undelivered)) => {
                record(Out::NotInStock)
            }
            // The stock's answer is on its way; or it comes after the parcel was cancelled, and
            // whoever did that has the pieces released as well.
            (Self::Packed { .. }, Ship { .. }) | (_, Stock(_)) => unchanged(),
        }
    }

    fn apply(&mut self, event: ShippingEvent) {
        *self = match (std::mem::take(self), event) {
            (_, Out::Packed { sku, units }) => Self::Packed { sku, units },
            (Self::Packed { sku, units }, Out::Shipped { at }) => Self::Shipped { sku, units, at },
            (_, Out::NotInStock) => Self::NotInStock,
            (_, Out::Cancelled) => Self::Cancelled,
            // No decision records another.
            (state, Out::Shipped { .. }) => state,
        };
    }

    fn react(&self, event: &ShippingEvent, ctx: &Context<Self>) -> Reactions<ShippingCommand> {
        match event {
            Out::Packed { sku, .. } => {
                let order = Order::id(ctx.id().as_str());
                effects![dispatch(sku, InventoryCommand::HandOver { order })]
            }
            Out::Shipped { .. } | Out::NotInStock | Out::Cancelled => effects![],
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
