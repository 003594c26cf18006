//! The stored and published messages.

use checkout_workflow::{Checkout, Inventory, Order, Payment, PaymentProvider, Shipping};
use composable_rust::testing::EventsLock;

#[test]
fn stored_messages_can_still_be_read() {
    EventsLock::new()
        .aggregate::<Checkout>()
        .aggregate::<Order>()
        .aggregate::<Inventory>()
        .aggregate::<Payment>()
        .aggregate::<Shipping>()
        .gateway::<PaymentProvider>()
        .check("events.lock");
}
