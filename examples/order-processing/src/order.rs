//! The order aggregate.

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Cents, Date};

/// An order of a customer. It is placed once, then shipped in one or several parcels. It can be
/// cancelled until the first parcel is shipped.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Order {
    /// Not placed yet.
    #[default]
    New,
    /// Placed, and possibly shipped.
    Placed {
        /// The content of the order.
        details: Details,
        /// The number of units shipped.
        shipped: u32,
    },
    /// Cancelled.
    Cancelled {
        /// The content of the order.
        details: Details,
        /// The reason for the cancellation.
        reason: String,
    },
}

/// The content of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The customer's number or name.
    pub customer: String,
    /// The day of the order.
    pub placed_on: Date,
    /// The number of units.
    pub units: u32,
    /// The price of all units together.
    pub amount: Cents,
}

/// The commands of an order.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderCommand {
    /// Place the order. Placing it again with the same details changes nothing.
    Place {
        /// The customer's number or name.
        customer: String,
        /// The day of the order. Default: today in UTC.
        placed_on: Option<Date>,
        /// The number of units.
        units: u32,
        /// The price of all units together.
        amount: Cents,
    },
    /// Ship a parcel.
    Ship {
        /// The carrier's number of the parcel.
        tracking: String,
        /// The number of units in the parcel. Default: all units that are not shipped.
        units: Option<u32>,
    },
    /// Cancel the order.
    Cancel {
        /// The reason for the cancellation.
        reason: String,
    },
}

/// The events of an order.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderEvent {
    /// The order was placed.
    #[message(version = 3, from(1 = PlacedV1, 2 = PlacedV2))]
    Placed(Details),
    /// A parcel was shipped.
    Shipped {
        /// The carrier's number of the parcel.
        tracking: String,
        /// The number of units in the parcel.
        units: u32,
    },
    /// The order was cancelled.
    Cancelled {
        /// The reason for the cancellation.
        reason: String,
    },
}

/// Version 1 of [`OrderEvent::Placed`]: every order had one unit.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlacedV1 {
    /// The customer's number.
    pub customer: u32,
    /// The day of the order.
    pub placed_on: Date,
    /// The price.
    pub amount: Cents,
}

/// Version 2 of [`OrderEvent::Placed`]: adds the number of units. Version 3 identifies customers by
/// number or name.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlacedV2 {
    /// The customer's number.
    pub customer: u32,
    /// The day of the order.
    pub placed_on: Date,
    /// The number of units.
    pub units: u32,
    /// The price of all units together.
    pub amount: Cents,
}

impl From<PlacedV1> for PlacedV2 {
    fn from(PlacedV1 { customer, placed_on, amount }: PlacedV1) -> Self {
        Self { customer, placed_on, units: 1, amount }
    }
}

impl From<PlacedV1> for OrderEvent {
    fn from(old: PlacedV1) -> Self {
        PlacedV2::from(old).into()
    }
}

impl From<PlacedV2> for OrderEvent {
    fn from(PlacedV2 { customer, placed_on, units, amount }: PlacedV2) -> Self {
        Self::Placed(Details { customer: customer_number(customer), placed_on, units, amount })
    }
}

/// Formats a customer number with five digits: `00007`.
pub fn customer_number(number: u32) -> String {
    format!("{number:05}")
}

/// The reasons for which an order rejects a command.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum OrderRejection {
    /// The customer is missing.
    #[message(status = 422)]
    #[error("an order needs a customer")]
    NoCustomer,
    /// The number of units is 0.
    #[message(status = 422)]
    #[error("at least one unit is needed")]
    NoUnits,
    /// The order was placed with other details.
    #[error("there is an order of this id with other details; choose another id")]
    AlreadyPlaced,
    /// The order was not placed.
    #[message(status = 404)]
    #[error("there is no such order; place it first")]
    NotPlaced,
    /// The parcel has more units than the order has left.
    #[error("only {left} of its units are still to be shipped")]
    TooManyUnits {
        /// The number of units that are not shipped.
        left: u32,
    },
    /// All units are shipped.
    #[error("all units are shipped already")]
    AlreadyShipped,
    /// A parcel was shipped, so the order cannot be cancelled.
    #[error("some units are shipped, so the order cannot be cancelled")]
    OnItsWay,
    /// The order was cancelled.
    #[error("the order was cancelled")]
    AlreadyCancelled,
}

use OrderCommand::{Cancel, Place, Ship};
use OrderEvent::{Cancelled, Placed, Shipped};
use OrderRejection as Rejection;

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderRejection;
    type Environment = ();

    fn decide(&self, command: OrderCommand, ctx: &Context<Self>) -> Decision<Self> {
        match (self, command) {
            (_, Place { units: 0, .. }) => reject(Rejection::NoUnits),
            (_, Place { customer, .. }) if customer.trim().is_empty() => {
                reject(Rejection::NoCustomer)
            }
            (Order::New, Place { customer, placed_on, units, amount }) => {
                let placed_on = placed_on.unwrap_or_else(|| Date::of(ctx.now()));
                record(Placed(Details { customer, placed_on, units, amount }))
            }
            (
                Order::Placed { details, .. } | Order::Cancelled { details, .. },
                Place { customer, placed_on, units, amount },
            ) => {
                let placed_on = placed_on.unwrap_or(details.placed_on);
                if *details == (Details { customer, placed_on, units, amount }) {
                    repeat(Placed(details.clone()))
                } else {
                    reject(Rejection::AlreadyPlaced)
                }
            }
            (Order::New, Ship { .. } | Cancel { .. }) => reject(Rejection::NotPlaced),
            (Order::Cancelled { .. }, Ship { .. } | Cancel { .. }) => {
                reject(Rejection::AlreadyCancelled)
            }
            (Order::Placed { details, shipped }, Ship { tracking, units }) => {
                match (details.units - shipped, units) {
                    (0, _) => reject(Rejection::AlreadyShipped),
                    (_, Some(0)) => reject(Rejection::NoUnits),
                    (left, Some(units)) if units > left => reject(Rejection::TooManyUnits { left }),
                    (left, units) => record(Shipped { tracking, units: units.unwrap_or(left) }),
                }
            }
            (Order::Placed { shipped: 0, .. }, Cancel { reason }) => record(Cancelled { reason }),
            (Order::Placed { .. }, Cancel { .. }) => reject(Rejection::OnItsWay),
        }
    }

    fn apply(&mut self, event: OrderEvent) {
        *self = match (std::mem::take(self), event) {
            (_, Placed(details)) => Order::Placed { details, shipped: 0 },
            (Order::Placed { details, shipped }, Shipped { units, .. }) => {
                Order::Placed { details, shipped: shipped + units }
            }
            (Order::Placed { details, .. }, Cancelled { reason }) => {
                Order::Cancelled { details, reason }
            }
            // `decide` records no other combination.
            (state, _) => state,
        };
    }

    fn is_finished(&self) -> bool {
        match self {
            Order::New => false,
            Order::Placed { details, shipped } => *shipped == details.units,
            Order::Cancelled { .. } => true,
        }
    }
}
