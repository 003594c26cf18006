//! The rules of the parcel, and its own question to the stock.

use checkout_workflow::{
    InventoryCommand, InventoryEvent, InventoryRejection, MOST_UNITS, Shipping, ShippingCommand,
    ShippingEvent, ShippingRejection as No,
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
fn a_parcel_leaves_when_the_stock_has_handed_it_over() {
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
fn without_its_pieces_it_does_not_leave() {
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
fn asking_again_sends_nothing_twice() {
    given::<Shipping>([packed()])
        .at(noon())
        .when(ship(2))
        .then_unchanged()
        .when(ship(3))
        .then_rejected(No::OtherContent)
        .when(handed_over())
        .then([Shipped { at: noon() }])
        .when(handed_over())
        .then_unchanged()
        .when(ship(2))
        .then_repeated(Shipped { at: noon() })
        .when(ship(3))
        .then_rejected(No::OtherContent)
        .when(Cancel)
        .then([Cancelled])
        .when(Cancel)
        .then_repeated(Cancelled);
}

#[test]
fn what_comes_after_its_cancellation_is_refused() {
    given::<Shipping>([])
        .when(Cancel)
        .then([Cancelled])
        .then_finished()
        .when(ship(2))
        .then_rejected(No::Cancelled);
}

#[test]
fn a_cancelled_parcel_does_not_leave_when_the_stock_answers_late() {
    given::<Shipping>([packed()])
        .when(Cancel)
        .then([Cancelled])
        .when(handed_over())
        .then_unchanged()
        .when(Stock(Reply::Unchanged))
        .then_unchanged();
}

#[test]
fn a_parcel_holds_only_so_much() {
    given::<Shipping>([]).when(ship(MOST_UNITS + 1)).then_rejected(No::TooMany);
}
