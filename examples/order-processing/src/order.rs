//! The order: what it is asked, what happens to it, why it refuses.

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Cents, Date};

/// An order. It is placed once, shipped in one parcel or several, or cancelled while nothing of it
/// is on its way.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub enum Order {
    /// Not placed yet.
    #[default]
    New,
    /// Placed, and perhaps shipped.
    Placed {
        /// What was ordered.
        details: Details,
        /// How many units are on their way.
        shipped: u32,
    },
    /// Cancelled.
    Cancelled {
        /// What was ordered.
        details: Details,
        /// Why it was cancelled.
        reason: String,
    },
}

/// What was ordered, by whom and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The customer's number or name.
    pub customer: String,
    /// The day of the order.
    pub placed_on: Date,
    /// How many pieces.
    pub units: u32,
    /// What they cost together.
    pub amount: Cents,
}

/// What an order is asked.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderCommand {
    /// Place it. Placing it again with the same details changes nothing.
    Place {
        /// The customer's number or name.
        customer: String,
        /// The day of the order; today in UTC unless said.
        placed_on: Option<Date>,
        /// How many pieces.
        units: u32,
        /// What they cost together.
        amount: Cents,
    },
    /// Send a parcel.
    Ship {
        /// The carrier's number of the parcel.
        tracking: String,
        /// How many pieces are in it; all that are left unless said.
        units: Option<u32>,
    },
    /// Cancel it.
    Cancel {
        /// Why.
        reason: String,
    },
}

/// What happens to an order.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum OrderEvent {
    /// It was placed.
    #[message(version = 3, from(1 = PlacedV1, 2 = PlacedV2))]
    Placed(Details),
    /// A parcel left.
    Shipped {
        /// The carrier's number of the parcel.
        tracking: String,
        /// How many pieces are in it.
        units: u32,
    },
    /// It was cancelled.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// Version 1 of [`OrderEvent::Placed`]: an order was of one piece.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlacedV1 {
    /// The customer's number.
    pub customer: u32,
    /// The day of the order.
    pub placed_on: Date,
    /// What it cost.
    pub amount: Cents,
}

/// Version 2 of [`OrderEvent::Placed`]: several pieces. In version 3 customers also have names.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlacedV2 {
    /// The customer's number.
    pub customer: u32,
    /// The day of the order.
    pub placed_on: Date,
    /// How many pieces.
    pub units: u32,
    /// What they cost together.
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

/// A customer's number as customers are named.
pub fn customer_number(number: u32) -> String {
    format!("{number:05}")
}

/// Why an order refuses.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum OrderRejection {
    /// Nobody orders.
    #[error("an order needs a customer")]
    NoCustomer,
    /// Nothing is ordered, or nothing is in the parcel.
    #[error("at least one unit is needed")]
    NoUnits,
    /// It is there with other details.
    #[error("there is an order of this id with other details; choose another id")]
    AlreadyPlaced,
    /// It is not there.
    #[error("there is no such order; place it first")]
    NotPlaced,
    /// A parcel cannot hold more than was ordered and is still here.
    #[error("only {left} of its units are still to be shipped")]
    TooManyUnits {
        /// How many are left.
        left: u32,
    },
    /// Nothing is left to be shipped.
    #[error("all of it is shipped already")]
    AlreadyShipped,
    /// It cannot be cancelled any more.
    #[error("some of it is on its way, so it cannot be cancelled")]
    OnItsWay,
    /// It is cancelled.
    #[error("it was cancelled")]
    AlreadyCancelled,
}

use OrderCommand::{Cancel, Place, Ship};
use OrderEvent::{Cancelled, Placed, Shipped};
use OrderRejection as No;

impl Aggregate for Order {
    const NAME: &'static str = "order";
    type Command = OrderCommand;
    type Event = OrderEvent;
    type Rejection = OrderRejection;
    type Environment = ();

    fn decide(&self, command: OrderCommand, ctx: &Context<Self>) -> Decision<Self> {
        match (self, command) {
            (_, Place { units: 0, .. }) => reject(No::NoUnits),
            (_, Place { customer, .. }) if customer.trim().is_empty() => reject(No::NoCustomer),
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
                    reject(No::AlreadyPlaced)
                }
            }
            (Order::New, Ship { .. } | Cancel { .. }) => reject(No::NotPlaced),
            (Order::Cancelled { .. }, Ship { .. } | Cancel { .. }) => reject(No::AlreadyCancelled),
            (Order::Placed { details, shipped }, Ship { tracking, units }) => {
                match (details.units - shipped, units) {
                    (0, _) => reject(No::AlreadyShipped),
                    (_, Some(0)) => reject(No::NoUnits),
                    (left, Some(units)) if units > left => reject(No::TooManyUnits { left }),
                    (left, units) => record(Shipped { tracking, units: units.unwrap_or(left) }),
                }
            }
            (Order::Placed { shipped: 0, .. }, Cancel { reason }) => record(Cancelled { reason }),
            (Order::Placed { .. }, Cancel { .. }) => reject(No::OnItsWay),
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
            // No decision records another.
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
