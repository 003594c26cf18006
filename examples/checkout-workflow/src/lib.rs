//! A checkout as a saga over four aggregates: the order is placed, stock reserved, the card charged,
//! the parcel shipped, the order confirmed; or all of it is undone. See the README beside this crate.

mod audit;
mod books;
pub mod cli;
mod commands;
mod inventory;
mod ledger;
mod order;
mod payment;
mod plan;
pub mod play;
mod progress;
mod provider;
#[expect(missing_docs, reason = "the names say it; how little a saga takes is the point")]
mod saga;
mod service;
mod shipping;
mod shop;
mod show;
mod stores;

pub use audit::{Audit, Books, Histories};
pub use inventory::{Held, Inventory, InventoryCommand, InventoryEvent, InventoryRejection};
pub use ledger::{Entry, EntryKind, Ledger};
pub use order::{Cart, Order, OrderCommand, OrderEvent, OrderRejection};
pub use payment::{Payment, PaymentCommand, PaymentEvent, PaymentRejection, Purpose};
pub use plan::Plan;
pub use provider::{PaymentProvider, ProviderFailure, ProviderRequest, ProviderResponse, Rates};
pub use saga::{Checkout, CheckoutCommand, CheckoutEvent, Status, Step, Task};
pub use service::{Service, UnknownService};
pub use shipping::{MOST_UNITS, Shipping, ShippingCommand, ShippingEvent, ShippingRejection};
pub use shop::{Apps, Shop};
pub use stores::{InvalidStores, Stores};
