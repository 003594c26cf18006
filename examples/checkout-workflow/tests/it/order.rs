//! The rules of the order.

use checkout_workflow::{Cart, Order, OrderCommand, OrderEvent, OrderRejection as No};
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
fn asking_again_repeats_the_answer() {
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
fn what_comes_after_its_cancellation_is_refused() {
    given::<Order>([Cancelled])
        .when(Place(cart()))
        .then_rejected(No::Cancelled)
        .when(Confirm)
        .then_rejected(No::Cancelled);
}

#[test]
fn orders_make_sense() {
    let nothing = Cart { units: 0, ..cart() };
    given::<Order>([]).when(Place(nothing)).then_rejected(No::NoUnits);
    given::<Order>([]).when(Confirm).then_rejected(No::NotPlaced);
    let other = Cart { units: 3, ..cart() };
    given::<Order>([Placed(cart())]).when(Place(other)).then_rejected(No::OtherCart);
}
