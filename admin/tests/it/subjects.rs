//! Finding a text that an erasure must have removed.

use composable_rust_admin::{Admin, Appearances, Operator};
use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::store::{Due, EventStore as _, NewTimer, TimerArming, TimerChange};
use composable_rust_core::{MessageId, Version};
use composable_rust_testing::InMemoryEventStore;
use composable_rust_testing::fixtures::{append, metadata, new_event, stream};
use uuid::Uuid;

const MAIL: &str = "ann@example.com";

async fn found(store: &InMemoryEventStore) -> Appearances {
    let admin = Admin::of_store(store.clone(), Operator::named("ann")).unwrap();
    admin.appearances(MAIL, |_| ()).await.unwrap()
}

#[tokio::test]
async fn a_text_is_found_in_timers_that_are_not_due() {
    let store = InMemoryEventStore::new();
    let mut arming = append(stream()).new_event(new_event("reminder.set", b"").build()).build();
    arming.timers = vec![TimerChange::Arm(NewTimer {
        id: "remind".to_owned(),
        arming: TimerArming { armed_by: MessageId(Uuid::from_u128(1)), effect_index: 0 },
        due: Due::After(std::time::Duration::from_secs(86_400 * 30)),
        content: new_event("reminder.remind", MAIL).build().content,
        metadata: serde_json::to_string(&metadata()).unwrap(),
    })];
    store.append_events(store.log().partition_of(&stream()), &[arming]).await.unwrap();
    let found = found(&store).await;
    assert_eq!((found.count, found.listed[0].part), (1, "timer"));
}

#[tokio::test]
async fn a_text_is_found_below_an_override() {
    let store = InMemoryEventStore::new();
    let event = new_event("customer.registered", MAIL).build();
    let of = append(stream()).new_event(event.clone()).build();
    store.append_events(store.log().partition_of(&stream()), &[of]).await.unwrap();
    let better = EncodedMessage { bytes: b"(removed)".to_vec(), ..event.content };
    store.override_event(&stream(), Version::new(1), &better).await.unwrap();
    let appearances = found(&store).await;
    assert_eq!((appearances.count, appearances.listed[0].part), (1, "original"));
    store.erase_stream(&stream()).await.unwrap();
    assert_eq!(found(&store).await, Appearances::default());
}
