//! The stock of one article.

use std::collections::BTreeMap;

use composable_rust::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Order;

/// The stock of one article; the instance's id is the article's SKU.
///
/// It knows every order that ever asked for the article: what was released stays known, so that a
/// reservation that arrives after its release is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Inventory {
    /// What is here and promised to nobody.
    pub on_hand: u64,
    /// What each order has of it.
    pub orders: BTreeMap<Id<Order>, Held>,
}

/// What an order has of an article.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// Here, and promised to it.
    Reserved {
        /// How many pieces.
        units: u32,
    },
    /// On its way to the customer.
    HandedOver {
        /// How many pieces.
        units: u32,
    },
    /// Given up, for good.
    Released {
        /// How many pieces it had.
        units: u32,
    },
}

/// What a stock is asked. All but [`Restock`](InventoryCommand::Restock) may be asked again.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum InventoryCommand {
    /// Take in pieces. Asking again takes in more: send it with a key.
    Restock {
        /// How many.
        units: u32,
    },
    /// Promise pieces to an order.
    Reserve {
        /// To which.
        order: Id<Order>,
        /// How many.
        units: u32,
    },
    /// Give the pieces of an order to the carrier.
    HandOver {
        /// Whose.
        order: Id<Order>,
    },
    /// Take back what an order has, also from the carrier. An order that has nothing yet cannot
    /// reserve from then on.
    Release {
        /// Which.
        order: Id<Order>,
    },
}

/// What happens to a stock.
#[derive(Debug, Clone, PartialEq, Message)]
pub enum InventoryEvent {
    /// Pieces came in.
    Restocked {
        /// How many.
        units: u32,
    },
    /// Pieces were promised to an order.
    Reserved {
        /// To which.
        order: Id<Order>,
        /// How many.
        units: u32,
    },
    /// The carrier has them.
    HandedOver {
        /// Whose.
        order: Id<Order>,
    },
    /// They are on hand again.
    Released {
        /// Whose they were.
        order: Id<Order>,
        /// How many; 0 if the order had none.
        units: u32,
    },
}

/// Why a stock refuses.
#[derive(Debug, Clone, PartialEq, Message, thiserror::Error)]
pub enum InventoryRejection {
    /// Nothing is asked for.
    #[error("at least one unit is needed")]
    NoUnits,
    /// More is asked for than is here.
    #[error("only {left} are left")]
    OnlyLeft {
        /// How many.
        left: u64,
    },
    /// The order has asked for another number before.
    #[error("the order has {units} already")]
    OtherUnits {
        /// How many it has.
        units: u32,
    },
    /// The order has given up what it had.
    #[error("the order has released its units")]
    Released,
    /// The order never reserved.
    #[error("nothing is reserved for the order")]
    NotReserved,
}

use InventoryCommand::{HandOver, Release, Reserve, Restock};
use InventoryEvent as Out;
use InventoryRejection as No;

impl Aggregate for Inventory {
    const NAME: &'static str = "inventory";
    type Command = InventoryCommand;
    type Event = InventoryEvent;
    type Rejection = InventoryRejection;
    type Environment = ();

    fn decide(&self, command: InventoryCommand, _: &Context<Self>) -> Decision<Self> {
        match command {
            Restock { units: 0 } | Reserve { units: 0, .. } => reject(No::NoUnits),
            Restock { units } => record(Out::Restocked { units }),
            Reserve { order, units } => match self.held(&order) {
                None if u64::from(units) > self.on_hand => {
                    reject(No::OnlyLeft { left: self.on_hand })
                }
                None => record(Out::Reserved { order, units }),
                Some(Held::Reserved { units: had } | Held::HandedOver { units: had }) => {
                    if had == units {
                        repeat(Out::Reserved { order, units })
                    } else {
                        reject(No::OtherUnits { units: had })
                    }
                }
                Some(Held::Released { .. }) => reject(No::Released),
            },
            HandOver { order } => match self.held(&order) {
                None => reject(No::NotReserved),
                Some(Held::Reserved { .. }) => record(Out::HandedOver { order }),
                Some(Held::HandedOver { .. }) => repeat(Out::HandedOver { order }),
                Some(Held::Released { .. }) => reject(No::Released),
            },
            Release { order } => match self.held(&order) {
                None => record(Out::Released { order, units: 0 }),
                Some(Held::Reserved { units } | Held::HandedOver { units }) => {
                    record(Out::Released { order, units })
                }
                Some(Held::Released { units }) => repeat(Out::Released { order, units }),
            },
        }
    }

    fn apply(&mut self, event: InventoryEvent) {
        match event {
            Out::Restocked { units } => self.on_hand += u64::from(units),
            Out::Reserved { order, units } => {
                self.on_hand -= u64::from(units);
                self.orders.insert(order, Held::Reserved { units });
            }
            Out::HandedOver { order } => {
                if let Some(Held::Reserved { units }) = self.held(&order) {
                    self.orders.insert(order, Held::HandedOver { units });
                }
            }
            Out::Released { order, units } => {
                self.on_hand += u64::from(units);
                self.orders.insert(order, Held::Released { units });
            }
        }
    }
}

impl Inventory {
    /// What `order` has; `None` if it never asked.
    pub fn held(&self, order: &Id<Order>) -> Option<Held> {
        self.orders.get(order).copied()
    }
}
