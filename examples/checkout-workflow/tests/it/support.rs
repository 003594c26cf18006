//! Values that the tests share.

use checkout_workflow::{Cart, Inventory, Order, Payment, Shipping};
use composable_rust::Timestamp;
use composable_rust::prelude::*;

pub(crate) fn cart() -> Cart {
    Cart { sku: sku(), units: 2, cents: 1_998 }
}

pub(crate) fn sku() -> Id<Inventory> {
    Inventory::id("pencil")
}

/// The time in tests without a clock.
pub(crate) fn noon() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().expect("a time")
}

/// The id `1` is the default id of an instance in `given`.
pub(crate) fn order() -> Id<Order> {
    Order::id("1")
}

pub(crate) fn payment() -> Id<Payment> {
    Payment::id("1")
}

pub(crate) fn parcel() -> Id<Shipping> {
    Shipping::id("1")
}
