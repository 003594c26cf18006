//! The stock of one article.

use std::collections::BTreeMap;

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Order;

/// The stock of one article. The id of an instance is the SKU of the article.
///
/// It remembers every order that asked for the article, also after the release, so that a
/// reservation which arrives after its release is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// The number of free units.
    pub on_hand: u64,
    /// The units allocated to each order.
    pub allocations: BTreeMap<Id<Order>, Allocation>,
}

/// The units of an article that are allocated to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Allocation {
    /// In the warehouse, reserved for the order.
    Reserved {
        /// The number of units.
        units: u32,
    },
    /// With the carrier.
    HandedOver {
        /// The number of units.
        units: u32,
    },
    /// Released. The order cannot reserve units again.
    Released {
        /// The number of units before the release.
        units: u32,
    },
}

/// The commands of a stock. All except [`Restock`](InventoryCommand::Restock) are idempotent.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum InventoryCommand {
    /// Take in units. Each send takes in more, so send it with an idempotency key.
    Restock {
        /// The number of units.
        units: u32,
    },
    /// Reserve units for an order.
    Reserve {
        /// The order that needs the units.
        order: Id<Order>,
        /// The number of units.
        units: u32,
    },
    /// Hand the units of an order over to the carrier.
    HandOver {
        /// The order that has the units.
        order: Id<Order>,
    },
    /// Take back the units of an order, also from the carrier. From then on the order cannot
    /// reserve units, even if it had none yet.
    Release {
        /// The order that has the units.
        order: Id<Order>,
    },
}

/// The events of a stock.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum InventoryEvent {
    /// Units were taken in.
    Restocked {
        /// The number of units.
        units: u32,
    },
    /// Units were reserved for an order.
    Reserved {
        /// The order that needs the units.
        order: Id<Order>,
        /// The number of units.
        units: u32,
    },
    /// The units of an order were handed over to the carrier.
    HandedOver {
        /// The order that has the units.
        order: Id<Order>,
    },
    /// The units of an order are free again.
    Released {
        /// The order that had the units.
        order: Id<Order>,
        /// The number of units; 0 if the order had none.
        units: u32,
    },
}

/// The reasons for which a stock rejects a command.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum InventoryRejection {
    /// The number of units is 0.
    #[error("at least one unit is needed")]
    NoUnits,
    /// There are not enough free units.
    #[error("only {left} are left")]
    OnlyLeft {
        /// The number of free units.
        left: u64,
    },
    /// The order has reserved another number of units before.
    #[error("the order has {units} already")]
    OtherUnits {
        /// The number of units of the order.
        units: u32,
    },
    /// The order has released its units.
    #[error("the order has released its units")]
    Released,
    /// The order has reserved nothing.
    #[error("nothing is reserved for the order")]
    NotReserved,
}

use InventoryCommand::{HandOver, Release, Reserve, Restock};
use InventoryEvent as Event;
use InventoryRejection as Rejection;

impl Aggregate for Inventory {
    const NAME: &'static str = "inventory";
    type Command = InventoryCommand;
    type Event = InventoryEvent;
    type Rejection = InventoryRejection;
    type Environment = ();

    fn decide(&self, command: InventoryCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            Restock { units: 0 } | Reserve { units: 0, .. } => reject(Rejection::NoUnits),
            Restock { units } => record(Event::Restocked { units }),
            Reserve { order, units } => match self.allocation(&order) {
                None if u64::from(units) > self.on_hand => {
                    reject(Rejection::OnlyLeft { left: self.on_hand })
                }
                None => record(Event::Reserved { order, units }),
                Some(
                    Allocation::Reserved { units: reserved }
                    | Allocation::HandedOver { units: reserved },
                ) => {
                    if reserved == units {
                        repeat(Event::Reserved { order, units })
                    } else {
                        reject(Rejection::OtherUnits { units: reserved })
                    }
                }
                Some(Allocation::Released { .. }) => reject(Rejection::Released),
            },
            HandOver { order } => match self.allocation(&order) {
                None => reject(Rejection::NotReserved),
                Some(Allocation::Reserved { .. }) => record(Event::HandedOver { order }),
                Some(Allocation::HandedOver { .. }) => repeat(Event::HandedOver { order }),
                Some(Allocation::Released { .. }) => reject(Rejection::Released),
            },
            Release { order } => match self.allocation(&order) {
                None => record(Event::Released { order, units: 0 }),
                Some(Allocation::Reserved { units } | Allocation::HandedOver { units }) => {
                    record(Event::Released { order, units })
                }
                Some(Allocation::Released { units }) => repeat(Event::Released { order, units }),
            },
        }
    }

    fn apply(&mut self, event: InventoryEvent) {
        match event {
            Event::Restocked { units } => self.on_hand += u64::from(units),
            Event::Reserved { order, units } => {
                self.on_hand -= u64::from(units);
                self.allocations.insert(order, Allocation::Reserved { units });
            }
            Event::HandedOver { order } => {
                if let Some(Allocation::Reserved { units }) = self.allocation(&order) {
                    self.allocations.insert(order, Allocation::HandedOver { units });
                }
            }
            Event::Released { order, units } => {
                self.on_hand += u64::from(units);
                self.allocations.insert(order, Allocation::Released { units });
            }
        }
    }
}

impl Inventory {
    /// Returns the units allocated to `order`; `None` if it never asked for the article.
    pub fn allocation(&self, order: &Id<Order>) -> Option<Allocation> {
        self.allocations.get(order).copied()
    }
}
