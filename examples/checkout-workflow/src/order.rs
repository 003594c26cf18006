//! The order: placed, then confirmed, or cancelled.

use composable_rust::Timestamp;
use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Inventory;

/// An order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Order {
    /// Not placed yet.
    #[default]
    New,
    /// Placed; the customer has no promise yet.
    Placed {
        /// What is ordered.
        cart: Cart,
    },
    /// The customer has our promise.
    Confirmed {
        /// What is ordered.
        cart: Cart,
        /// When the promise was made.
        at: Timestamp,
    },
    /// Cancelled, perhaps before it was placed.
    Cancelled,
}

/// What is bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cart {
    /// The article.
    pub sku: Id<Inventory>,
    /// How many pieces.
    pub units: u32,
    /// What they cost together.
    pub cents: u64,
}

/// What an order is asked. Asking the same again is harmless: it is answered as it was the first
/// time.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderCommand {
    /// Place it.
    Place(Cart),
    /// Promise it to the customer.
    Confirm,
    /// Cancel it. An order that was not placed cannot be placed from then on.
    Cancel,
}

/// What happens to an order.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderEvent {
    /// It was placed.
    Placed(Cart),
    /// It was promised to the customer.
    Confirmed {
        /// When.
        at: Timestamp,
    },
    /// It was cancelled.
    Cancelled,
}

/// Why an order refuses.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum OrderRejection {
    /// Nothing is ordered.
    #[error("at least one unit is needed")]
    NoUnits,
    /// It is there with another cart.
    #[error("there is an order of this id with another cart; choose another id")]
    OtherCart,
    /// It is not there.
    #[error("there is no such order; place it first")]
    NotPlaced,
    /// It is cancelled.
    #[error("it was cancelled")]
    Cancelled,
}

use OrderCommand as In;
use OrderEvent as Out;
use OrderRejection as No;

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderRejection;
    type Environment = ();

    fn decide(&self, command: OrderCommand, ctx: &Context<Self>) -> Decision<Self> {
        match (self, command) {
            (Order::Cancelled, In::Cancel) => repeat(Out::Cancelled),
            (_, In::Cancel) => record(Out::Cancelled),
            (Order::Cancelled, _) => reject(No::Cancelled),
            (_, In::Place(Cart { units: 0, .. })) => reject(No::NoUnits),
            (Order::New, In::Place(cart)) => record(Out::Placed(cart)),
            (Order::Placed { cart } | Order::Confirmed { cart, .. }, In::Place(again)) => {
                if *cart == again { repeat(Out::Placed(again)) } else { reject(No::OtherCart) }
            }
            (Order::New, In::Confirm) => reject(No::NotPlaced),
            (Order::Placed { .. }, In::Confirm) => record(Out::Confirmed { at: ctx.now() }),
            (Order::Confirmed { at, .. }, In::Confirm) => repeat(Out::Confirmed { at: *at }),
        }
    }

    fn apply(&mut self, event: OrderEvent) {
        *self = match (std::mem::take(self), event) {
            (_, Out::Placed(cart)) => Order::Placed { cart },
            (Order::Placed { cart }, Out::Confirmed { at }) => Order::Confirmed { cart, at },
            (_, Out::Cancelled) => Order::Cancelled,
            // No decision records another.
            (state, Out::Confirmed { .. }) => state,
        };
    }

    fn is_finished(&self) -> bool {
        *self == Order::Cancelled
    }
}
