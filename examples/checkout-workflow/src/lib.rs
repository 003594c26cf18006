//! A checkout as a saga over four aggregates: it places an order, reserves stock, charges the card,
//! ships the parcel and confirms the order, or undoes all of it. See the README of this crate.

mod args;
mod audit;
mod audit_input;
pub mod cli;
mod commands;
mod demo;
mod inventory;
mod ledger;
mod order;
mod output;
mod payment;
mod plan;
mod progress;
mod provider;
mod saga;
mod service;
mod shipping;
mod shop;
mod show;
pub mod simulation;
mod stores;

pub use audit::Audit;
pub use audit_input::{AuditInput, Histories};
pub use inventory::{Allocation, Inventory, InventoryCommand, InventoryEvent, InventoryRejection};
pub use ledger::{Entry, EntryKind, Ledger};
pub use order::{Cart, Order, OrderCommand, OrderEvent, OrderRejection};
pub use payment::{Payment, PaymentCommand, PaymentEvent, PaymentRejection, Purpose};
pub use plan::Plan;
pub use provider::{PaymentProvider, ProviderFailure, ProviderRequest, ProviderResponse, Rates};
pub use saga::{Checkout, CheckoutCommand, CheckoutEvent, Step};
pub use service::{Service, UnknownService};
pub use shipping::{MAX_UNITS, Shipping, ShippingCommand, ShippingEvent, ShippingRejection};
pub use shop::{Apps, Shop};
pub use stores::{InvalidStores, Stores};
