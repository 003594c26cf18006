//! The rules of the order.

use checkout_workflow::{Cart, Order, OrderCommand, OrderEvent, OrderRejection as Rejection};
use composable_rust::testing::given;

use OrderCommand::{Cancel, Confirm, Place};
use OrderEvent::{Cancelled, Confirmed, Placed};

use crate::support::{cart, noon};

#[test]
fn an_order_is_placed_and_confirmed() {
    given::<Order>([])
        .at(noon())
        .when(Place(cart()))
        .then([Placed(cart())])
        .when(Confirm)
        .then([Confirmed { at: noon() }])
        .then_state(Order::Confirmed { cart: cart(), at: noon() });
}

#[test]
fn a_repeated_command_gets_the_first_reply() {
    given::<Order>([Placed(cart())]).when(Place(cart())).then_repeated(Placed(cart()));
    given::<Order>([Placed(cart()), Confirmed { at: noon() }])
        .when(Confirm)
        .then_repeated(Confirmed { at: noon() })
        .when(Place(cart()))
        .then_repeated(Placed(cart()));
    given::<Order>([Cancelled]).when(Cancel).then_repeated(Cancelled);
}

#[test]
fn an_order_can_always_be_cancelled() {
    for history in [vec![], vec![Placed(cart())], vec![Placed(cart()), Confirmed { at: noon() }]] {
        given::<Order>(history).when(Cancel).then([Cancelled]).then_finished();
    }
}

#[test]
fn a_cancelled_order_rejects_other_commands() {
    given::<Order>([Cancelled])
        .when(Place(cart()))
        .then_rejected(Rejection::Cancelled)
        .when(Confirm)
        .then_rejected(Rejection::Cancelled);
}

#[test]
fn a_wrong_command_is_rejected() {
    let no_units = Cart { units: 0, ..cart() };
    given::<Order>([]).when(Place(no_units)).then_rejected(Rejection::NoUnits);
    given::<Order>([]).when(Confirm).then_rejected(Rejection::NotPlaced);
    let other = Cart { units: 3, ..cart() };
    given::<Order>([Placed(cart())]).when(Place(other)).then_rejected(Rejection::OtherCart);
}
