//! Durable effects are stored with the events that cause them.

use composable_rust_core::prelude::*;
use composable_rust_core::{Metadata, OutboxKind};
use composable_rust_testing::{Fault, FaultyEventStore, InMemoryEventStore};

use crate::account::{Account, AccountCommand as In, app};

#[tokio::test]
async fn a_dispatch_is_stored_with_its_return_address() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::PayFrom { other: "2".into(), cents: 7 }).await.unwrap();

    let outbox = store.outbox();
    assert_eq!(outbox.len(), 1);
    let row = &outbox[0].row;
    assert_eq!(
        (row.kind, &*row.target, &*row.recipient),
        (OutboxKind::Dispatch, "account", "account-2")
    );
    assert_eq!(row.content.name, "account.withdraw");
    let metadata: Metadata = serde_json::from_str(&row.metadata).unwrap();
    assert_eq!(metadata.return_addresses[0].stream, account.id().stream());
    assert_eq!(metadata.return_addresses[0].tag.value, "\"rent\"");
    let event = &store.events(&account.id().stream())[0];
    assert_eq!(metadata.causation_id, event.id.0);
}

#[tokio::test]
async fn timers_are_armed_replaced_cancelled_and_dropped_at_the_end() {
    let store = InMemoryEventStore::new();
    let account = app(&store).handle(&Account::id("1"));
    account.send(In::Remind).await.unwrap();
    let first = store.timers();
    account.send(In::Remind).await.unwrap();
    let second = store.timers();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!((&*first[0].id, &*second[0].id), ("reminder", "reminder"));
    assert_ne!(first[0].arming, second[0].arming);

    account.send(In::Forget).await.unwrap();
    assert!(store.timers().is_empty());

    account.send(In::Remind).await.unwrap();
    account.send(In::End).await.unwrap();
    assert!(store.timers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn effects_without_an_event_are_stored_once_though_the_append_is_sent_again() {
    let memory = InMemoryEventStore::new();
    let store = FaultyEventStore::new(memory.clone());
    let account = app(&store).handle(&Account::id("1"));
    store.next_appends([Fault::FailAfter, Fault::FailAfter]);
    account.send(In::Nudge { other: "2".into() }).await.unwrap();
    assert_eq!(memory.all_events(), []);
    assert_eq!(memory.outbox().len(), 1);
}
