//! Dead letters beyond those that a list examines.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

use composable_rust_admin::{Admin, AdminError, DeadLetterFilter, Operator, Resolution};
use composable_rust_core::codec::EncodedMessage;
use composable_rust_core::queue::{DeadLetterDecision, OutboxKind, OutboxMessage};
use composable_rust_core::store::{EventStore, NewOutboxRow, StoreError};
use composable_rust_testing::fixtures::{metadata, stream};
use composable_rust_testing::{InMemoryEventStore, Intercept, Intercepted};
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
    five_on(InMemoryEventStore::new()).await
}

async fn five_on(store: impl EventStore) -> (Admin, Uuid) {
    let letters: Vec<_> = (1..=5).map(|n| message(n, OutboxKind::Dispatch)).collect();
    let partition = store.log().partition_of(&stream());
    store.park(partition, &letters, "there is no stock").await.unwrap();
    let admin = Admin::of_store(store, Operator::named("ann")).unwrap().examining(3);
    (admin, letters[4].row.id)
}

/// A store that fails from the third decision about a dead letter on.
#[derive(Default)]
struct Failing(AtomicUsize);

impl<S: EventStore> Intercept<S> for Failing {
    async fn decide_dead_letter(
        &self,
        store: &S,
        partition: u16,
        id: Uuid,
        decision: DeadLetterDecision,
    ) -> Result<bool, StoreError> {
        if self.0.fetch_add(1, Ordering::Relaxed) >= 2 {
            return Err(StoreError::unavailable("the server is away"));
        }
        store.decide_dead_letter(partition, id, decision).await
    }
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

#[tokio::test]
async fn a_decision_that_fails_in_the_middle_says_how_far_it_came() {
    let store = Intercepted::layered(InMemoryEventStore::new(), Failing::default());
    let (admin, _) = five_on(store).await;
    let all = DeadLetterFilter::default();
    let failed = admin.resolve_dead_letters(&all, Resolution::Discard, |_| ()).await;
    let Err(AdminError::PartlyDecided { decided: 2, source }) = &failed else {
        panic!("{failed:?}")
    };
    assert!(source.is_transient());
    let audit = admin.audit(None, 1).await.unwrap();
    let result = audit.entries[0].result.as_deref().unwrap_or_default();
    assert!(result.starts_with("failed: at least 2 dead letters were decided about"), "{result}");
}
