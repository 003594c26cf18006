//! What is stored and sent.

use checkout_workflow::{Checkout, Inventory, Order, Payment, PaymentProvider, Shipping};
use composable_rust::testing::EventsLock;

#[test]
fn what_is_stored_can_still_be_read() {
    EventsLock::new()
        .aggregate::<Checkout>()
        .aggregate::<Order>()
        .aggregate::<Inventory>()
        .aggregate::<Payment>()
        .aggregate::<Shipping>()
        .gateway::<PaymentProvider>()
        .check("events.lock");
}
