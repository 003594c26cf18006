//! The rules of the parcel, and its request to the stock.

use checkout_workflow::{
    InventoryCommand, InventoryEvent, InventoryRejection, MAX_UNITS, Shipping, ShippingCommand,
    ShippingEvent, ShippingRejection as Rejection,
};
use composable_rust::prelude::*;
use composable_rust::testing::given;

use ShippingCommand::{Cancel, Ship, Stock};
use ShippingEvent::{Cancelled, NotInStock, Packed, Shipped};

use crate::support::{noon, order, sku};

fn ship(units: u32) -> ShippingCommand {
    Ship { sku: sku(), units }
}

fn packed() -> ShippingEvent {
    Packed { sku: sku(), units: 2 }
}

fn handed_over() -> ShippingCommand {
    Stock(Reply::Recorded(InventoryEvent::HandedOver { order: order() }))
}

#[test]
fn a_parcel_is_shipped_when_its_units_are_handed_over() {
    given::<Shipping>([])
        .at(noon())
        .when(ship(2))
        .then([packed()])
        .reacts(effects![dispatch(&sku(), InventoryCommand::HandOver { order: order() })])
        .when(handed_over())
        .then([Shipped { at: noon() }])
        .then_state(Shipping::Shipped { sku: sku(), units: 2, at: noon() });
}

#[test]
fn a_parcel_without_units_is_not_shipped() {
    for reply in [Reply::Rejected(InventoryRejection::NotReserved), Reply::Undelivered] {
        given::<Shipping>([packed()])
            .when(Stock(reply))
            .then([NotInStock])
            .when(ship(2))
            .then_repeated(NotInStock)
            .when(Cancel)
            .then([Cancelled]);
    }
}

#[test]
fn a_repeated_command_ships_once() {
    given::<Shipping>([packed()])
        .at(noon())
        .when(ship(2))
        .then_unchanged()
        .when(ship(3))
        .then_rejected(Rejection::OtherContent)
        .when(handed_over())
        .then([Shipped { at: noon() }])
        .when(handed_over())
        .then_unchanged()
        .when(ship(2))
        .then_repeated(Shipped { at: noon() })
        .when(ship(3))
        .then_rejected(Rejection::OtherContent)
        .when(Cancel)
        .then([Cancelled])
        .when(Cancel)
        .then_repeated(Cancelled);
}

#[test]
fn a_cancelled_parcel_rejects_shipping() {
    given::<Shipping>([])
        .when(Cancel)
        .then([Cancelled])
        .then_finished()
        .when(ship(2))
        .then_rejected(Rejection::Cancelled);
}

#[test]
fn a_late_reply_of_the_stock_does_not_ship_a_cancelled_parcel() {
    given::<Shipping>([packed()])
        .when(Cancel)
        .then([Cancelled])
        .when(handed_over())
        .then_unchanged()
        .when(Stock(Reply::Unchanged))
        .then_unchanged();
}

#[test]
fn a_parcel_has_a_maximum_size() {
    given::<Shipping>([]).when(ship(MAX_UNITS + 1)).then_rejected(Rejection::TooMany);
}
