//! The order aggregate.

use composable_rust::Timestamp;
use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Inventory;

/// An order of a customer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Order {
    /// Not placed yet.
    #[default]
    New,
    /// Placed, but not confirmed to the customer.
    Placed {
        /// The ordered goods.
        cart: Cart,
    },
    /// Confirmed to the customer.
    Confirmed {
        /// The ordered goods.
        cart: Cart,
        /// The time of the confirmation.
        at: Timestamp,
    },
    /// Cancelled, possibly before it was placed.
    Cancelled,
}

/// The goods that a customer buys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cart {
    /// The article.
    pub sku: Id<Inventory>,
    /// The number of units.
    pub units: u32,
    /// The price of all units together, in cents.
    pub cents: u64,
}

/// The commands of an order. All are idempotent: a repeated command gets the first reply again.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderCommand {
    /// Place the order.
    Place(Cart),
    /// Confirm the order to the customer.
    Confirm,
    /// Cancel the order. From then on it cannot be placed, even if it was not placed yet.
    Cancel,
}

/// The events of an order.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderEvent {
    /// The order was placed.
    Placed(Cart),
    /// The order was confirmed to the customer.
    Confirmed {
        /// The time of the confirmation.
        at: Timestamp,
    },
    /// The order was cancelled.
    Cancelled,
}

/// The reasons for which an order rejects a command.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum OrderRejection {
    /// The cart has no units.
    #[error("at least one unit is needed")]
    NoUnits,
    /// The order was placed with another cart.
    #[error("there is an order of this id with another cart; choose another id")]
    OtherCart,
    /// The order was not placed.
    #[error("there is no such order; place it first")]
    NotPlaced,
    /// The order was cancelled.
    #[error("the order was cancelled")]
    Cancelled,
}

use OrderCommand::{Cancel, Confirm, Place};
use OrderEvent::{Cancelled, Confirmed, Placed};
use OrderRejection as Rejection;

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderRejection;
    type Environment = ();

    fn decide(&self, command: OrderCommand, ctx: &Context<Self>) -> Decision<Self> {
        match (self, command) {
            (Order::Cancelled, Cancel) => repeat(Cancelled),
            (_, Cancel) => record(Cancelled),
            (Order::Cancelled, _) => reject(Rejection::Cancelled),
            (_, Place(Cart { units: 0, .. })) => reject(Rejection::NoUnits),
            (Order::New, Place(cart)) => record(Placed(cart)),
            (Order::Placed { cart } | Order::Confirmed { cart, .. }, Place(repeated)) => {
                if *cart == repeated {
                    repeat(Placed(repeated))
                } else {
                    reject(Rejection::OtherCart)
                }
            }
            (Order::New, Confirm) => reject(Rejection::NotPlaced),
            (Order::Placed { .. }, Confirm) => record(Confirmed { at: ctx.now() }),
            (Order::Confirmed { at, .. }, Confirm) => repeat(Confirmed { at: *at }),
        }
    }

    fn apply(&mut self, event: OrderEvent) {
        *self = match (std::mem::take(self), event) {
            (_, Placed(cart)) => Order::Placed { cart },
            (Order::Placed { cart }, Confirmed { at }) => Order::Confirmed { cart, at },
            (_, Cancelled) => Order::Cancelled,
            // `decide` records no other combination.
            (state, Confirmed { .. }) => state,
        };
    }

    fn is_finished(&self) -> bool {
        *self == Order::Cancelled
    }
}
