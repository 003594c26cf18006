//! The lock of the stored shapes.

use composable_rust::testing::EventsLock;
use production_ready::order::{Fulfilment, Order};
use production_ready::payment::{Payment, Provider};
use production_ready::shipping::Parcel;

#[test]
fn the_stored_shapes_are_those_of_the_lock() {
    EventsLock::new()
        .aggregate::<Order>()
        .aggregate::<Fulfilment>()
        .aggregate::<Payment>()
        .aggregate::<Parcel>()
        .gateway::<Provider>()
        .check("events.lock");
}
