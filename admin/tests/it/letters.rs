//! Dead letters beyond those that a list examines.

use std::borrow::Cow;

use composable_rust_admin::{Admin, DeadLetterFilter, Operator, Resolution};
use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::queue::{Outbox as _, OutboxKind, OutboxMessage};
use composable_rust_core::store::{EventStore as _, NewOutboxRow};
use composable_rust_testing::InMemoryEventStore;
use composable_rust_testing::fixtures::{metadata, stream};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

/// Returns message `n` of the stream of the fixtures.
pub(crate) fn message(n: u128, kind: OutboxKind) -> OutboxMessage {
    let row = NewOutboxRow {
        id: Uuid::from_u128(n),
        kind,
        target: "order".to_owned(),
        recipient: format!("order-{n}"),
        content: EncodedMessage {
            name: Cow::Borrowed("order.place"),
            version: 1,
            codec: Cow::Borrowed("json"),
            bytes: b"{}".to_vec(),
        },
        metadata: serde_json::to_string(&metadata()).unwrap(),
    };
    OutboxMessage { sender: stream(), row }
}

/// Returns the operations on a store with five dead letters of one cause, three of which a list
/// examines, and the id of the last one.
async fn five() -> (Admin, Uuid) {
    let store = InMemoryEventStore::new();
    let letters: Vec<_> = (1..=5).map(|n| message(n, OutboxKind::Dispatch)).collect();
    let partition = store.log().partition_of(&stream());
    store.park(partition, &letters, "there is no stock").await.unwrap();
    let admin = Admin::of_store(store, Operator::named("ann")).unwrap().examining(3);
    (admin, letters[4].row.id)
}

#[tokio::test]
async fn lists_say_that_they_are_cut() {
    let (admin, _) = five().await;
    let all = DeadLetterFilter::default();
    let (list, groups) = (
        admin.dead_letters(&all, 10).await.unwrap(),
        admin.dead_letter_groups(&all).await.unwrap(),
    );
    assert_eq!((list.entries.len(), list.is_cut), (3, true));
    assert_eq!((groups.entries[0].count, groups.is_cut), (3, true));
    let admin = admin.examining(5);
    let list = admin.dead_letters(&all, 10).await.unwrap();
    assert_eq!((list.entries.len(), list.is_cut), (5, false));
    assert!(!admin.dead_letter_groups(&all).await.unwrap().is_cut);
}

#[tokio::test]
async fn letters_behind_those_of_a_list_are_found_and_decided_about() {
    let (admin, last) = five().await;
    let all: Vec<_> =
        admin.all_dead_letters(&DeadLetterFilter::default()).try_collect().await.unwrap();
    assert_eq!(all.len(), 5);
    assert_eq!(admin.dead_letter(last).await.unwrap().message.id, last);
    let one = DeadLetterFilter { ids: vec![last], ..DeadLetterFilter::default() };
    let resolved = admin.resolve_dead_letters(&one, Resolution::Discard, |_| ()).await.unwrap();
    assert_eq!(resolved.decided, 1);
}
