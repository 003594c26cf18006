//! The lock file of stored messages.

use composable_rust::testing::EventsLock;

use crate::{Cards, Invoice, Renewal, Subscription};

#[test]
fn stored_messages_still_decode() {
    EventsLock::new()
        .aggregate::<Subscription>()
        .aggregate::<Invoice>()
        .aggregate::<Renewal>()
        .gateway::<Cards>()
        .check("events.lock");
}
