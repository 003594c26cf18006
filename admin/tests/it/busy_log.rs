//! Operations on a log that grows meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use composable_rust_admin::{Admin, Operator, Verification};
use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::Checkpoint;
use composable_rust_core::store::{EventStore, ExpectedVersion, StoreError};
use composable_rust_core::{Position, Version};
use composable_rust_testing::fixtures::{append, new_event, stream};
use composable_rust_testing::{InMemoryEventStore, Intercept, Intercepted};

/// A store to which an event is appended, and in which a follower proceeds to it, as soon as the
/// log is read.
#[derive(Default)]
struct Busy(AtomicBool);

impl<S: EventStore> Intercept<S> for Busy {
    async fn read_log(
        &self,
        store: &S,
        after: &[Position],
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        if !self.0.swap(true, Ordering::Relaxed) {
            let partition = store.log().partition_of(&stream());
            let next = append(stream()).expecting(ExpectedVersion::Exact(Version::new(1)));
            let next = next.new_event(new_event("order.placed", b"").id(2).build()).build();
            store.append_events(partition, std::slice::from_ref(&next)).await?;
            let event_id = Some(next.events[0].id);
            let to = Checkpoint { partition, offset: 2, event_id };
            store.save_checkpoints("follow/fulfil", &[to]).await?;
        }
        store.read_log(after, limit).await
    }
}

#[tokio::test]
async fn a_follower_may_proceed_while_a_log_is_verified() {
    let store = InMemoryEventStore::new();
    let first = append(stream()).new_event(new_event("order.placed", b"").id(1).build()).build();
    store.append_events(store.log().partition_of(&stream()), &[first]).await.unwrap();
    let busy = Intercepted::layered(store, Busy::default());
    let admin = Admin::of_store(busy, Operator::named("ann")).unwrap();
    let found = admin.verify(|_| ()).await.unwrap();
    let expected =
        Verification { events: 1, streams: 1, unregistered: 1, ..Verification::default() };
    assert_eq!(found, expected);
}
