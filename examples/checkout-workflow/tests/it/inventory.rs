//! The rules of the stock.

use checkout_workflow::{
    Allocation, Inventory, InventoryCommand, InventoryEvent, InventoryRejection as Rejection, Order,
};
use composable_rust::prelude::*;
use composable_rust::testing::given;

use InventoryCommand::{HandOver, Release, Reserve, Restock};
use InventoryEvent::{HandedOver, Released, Reserved, Restocked};

use crate::support::order;

fn reserved() -> InventoryEvent {
    Reserved { order: order(), units: 2 }
}

fn reserve(units: u32) -> InventoryCommand {
    Reserve { order: order(), units }
}

fn hand_over() -> InventoryCommand {
    HandOver { order: order() }
}

fn release() -> InventoryCommand {
    Release { order: order() }
}

#[test]
fn units_are_restocked_reserved_and_handed_over() {
    given::<Inventory>([])
        .when(Restock { units: 5 })
        .then([Restocked { units: 5 }])
        .when(reserve(2))
        .then([reserved()])
        .state(|stock| assert_eq!(stock.on_hand, 3))
        .when(hand_over())
        .then([HandedOver { order: order() }])
        .state(|stock| assert_eq!(stock.on_hand, 3))
        .state(|stock| {
            assert_eq!(stock.allocation(&order()), Some(Allocation::HandedOver { units: 2 }));
        });
}

#[test]
fn no_more_units_are_reserved_than_are_free() {
    given::<Inventory>([Restocked { units: 2 }])
        .when(reserve(3))
        .then_rejected(Rejection::OnlyLeft { left: 2 })
        .when(reserve(2))
        .then([reserved()])
        .when(Reserve { order: Order::id("2"), units: 1 })
        .then_rejected(Rejection::OnlyLeft { left: 0 });
}

#[test]
fn a_repeated_command_moves_no_units() {
    given::<Inventory>([Restocked { units: 5 }, reserved()])
        .when(reserve(2))
        .then_repeated(reserved())
        .when(reserve(3))
        .then_rejected(Rejection::OtherUnits { units: 2 })
        .when(hand_over())
        .then([HandedOver { order: order() }])
        .when(hand_over())
        .then_repeated(HandedOver { order: order() })
        .when(reserve(2))
        .then_repeated(reserved())
        .when(release())
        .then([Released { order: order(), units: 2 }])
        .when(release())
        .then_repeated(Released { order: order(), units: 2 })
        .state(|stock| assert_eq!(stock.on_hand, 5));
}

#[test]
fn an_order_that_released_its_units_is_rejected() {
    given::<Inventory>([Restocked { units: 5 }])
        .when(release())
        .then([Released { order: order(), units: 0 }])
        .when(reserve(2))
        .then_rejected(Rejection::Released)
        .when(hand_over())
        .then_rejected(Rejection::Released)
        .state(|stock| assert_eq!(stock.on_hand, 5));
}

#[test]
fn a_wrong_command_is_rejected() {
    given::<Inventory>([]).when(Restock { units: 0 }).then_rejected(Rejection::NoUnits);
    given::<Inventory>([]).when(reserve(0)).then_rejected(Rejection::NoUnits);
    given::<Inventory>([]).when(hand_over()).then_rejected(Rejection::NotReserved);
}
