//! Timers that are armed again between a look and a decision.

use composable_rust_admin::{Admin, AdminError, Operator, TimerRef};
use composable_rust_core::store::{
    Due, EventStore as _, ExpectedVersion, NewTimer, TimerArming, TimerChange,
};
use composable_rust_core::{MessageId, StreamId, Timestamp};
use composable_rust_testing::InMemoryEventStore;
use composable_rust_testing::fixtures::{append, metadata, new_event, stream};
use uuid::Uuid;

const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);

fn arming(n: u128) -> TimerArming {
    TimerArming { armed_by: MessageId(Uuid::from_u128(n)), effect_index: 3 }
}

/// Arms the timer `step`, as a saga does for each of its steps.
async fn arm(store: &InMemoryEventStore, n: u128) {
    let event = new_event("checkout.step", b"").build();
    let mut append = append(stream()).expecting(ExpectedVersion::Any).build();
    append.timers = vec![TimerChange::Arm(NewTimer {
        id: "step".to_owned(),
        arming: arming(n),
        due: Due::After(HOUR),
        content: event.content,
        metadata: serde_json::to_string(&metadata()).unwrap(),
    })];
    append.inbox = vec![composable_rust_core::store::NewInboxEntry {
        message_id: MessageId(Uuid::from_u128(n)),
        digest: 0,
        first_event: 0,
        event_count: 0,
        outcome: Vec::new(),
    }];
    store.append_events(store.log().partition_of(&stream()), &[append]).await.unwrap();
}

async fn armed() -> (InMemoryEventStore, Admin, TimerRef) {
    let store = InMemoryEventStore::new();
    arm(&store, 1).await;
    let admin = Admin::of_store(store.clone(), Operator::named("ann")).unwrap();
    let seen = TimerRef::from(&admin.timer(&stream(), "step").await.unwrap());
    (store, admin, seen)
}

async fn due(admin: &Admin, of: &StreamId) -> Vec<Timestamp> {
    let query = composable_rust_admin::TimerQuery { limit: 9, ..Default::default() };
    let timers = admin.timers(&query).await.unwrap();
    timers.into_iter().filter(|timer| timer.message.sender == *of).map(|timer| timer.due).collect()
}

#[tokio::test]
async fn a_timer_is_fired_or_cancelled_only_as_it_was_seen() {
    let (store, admin, seen) = armed().await;
    arm(&store, 2).await;
    let later = due(&admin, &stream()).await;
    for changed in [admin.fire_timer(&seen).await, admin.cancel_timer(&seen).await] {
        assert!(matches!(changed, Err(AdminError::TimerGone { .. })), "{changed:?}");
    }
    assert_eq!(due(&admin, &stream()).await, later);
}

/// As after an error whose outcome is unknown.
#[tokio::test]
async fn a_fired_timer_may_be_fired_again() {
    let (store, admin, seen) = armed().await;
    for _ in 0..2 {
        admin.fire_timer(&seen).await.unwrap();
        let fired = admin.timer(&stream(), "step").await.unwrap();
        assert_eq!((fired.due, fired.arming), (store.now().await.unwrap(), seen.arming));
    }
    assert_eq!(seen.arming.to_string().parse(), Ok(seen.arming));
    admin.cancel_timer(&seen).await.unwrap();
    assert!(matches!(admin.cancel_timer(&seen).await, Err(AdminError::TimerGone { .. })));
}
