//! Pruning an inbox of many entries.

use std::time::Duration;

use composable_rust_core::MessageId;
use composable_rust_core::queue::{Inbox as _, Outbox as _, OutboxKind, OutboxMessage};
use composable_rust_core::store::{Append, ExpectedVersion, NewInboxEntry, NewOutboxRow};
use composable_rust_sqlite::SqliteEventStore;
use uuid::Uuid;

use crate::make::{commit, events, stream};

/// Appends inbox entries of the messages `from..to`, without events, 500 on each stream.
async fn mark(store: &SqliteEventStore, from: u128, to: u128) {
    for start in (from..to).step_by(500) {
        let marks = (start..to.min(start + 500)).map(|n| NewInboxEntry {
            message_id: MessageId(Uuid::from_u128(n)),
            digest: n,
            first_event: 0,
            event_count: 0,
            outcome: Vec::new(),
        });
        let append = Append::new(stream(&format!("{start:05}")), ExpectedVersion::EMPTY);
        commit(store, &append.with_inbox(marks.collect())).await;
    }
}

/// Several pages, of which the first has only entries of queued messages.
#[tokio::test]
async fn a_large_inbox_is_pruned_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let builder = SqliteEventStore::builder(folder.path().join("log.db")).partitions(1);
    let store = builder.open().await.unwrap();
    mark(&store, 0, 5_500).await;
    let content = events(1, 10).remove(0).content;
    let row = |n| OutboxMessage {
        sender: stream("sender"),
        row: NewOutboxRow {
            id: Uuid::from_u128(n),
            kind: OutboxKind::Dispatch,
            target: "order".to_owned(),
            recipient: "order-1".to_owned(),
            content: content.clone(),
            metadata: "{}".to_owned(),
        },
    };
    let rows: Vec<_> = (0..1_500).map(row).collect();
    store.enqueue(0, &rows, None).await.unwrap();

    for pruned in [700, 700, 700, 700, 700, 500, 0] {
        assert_eq!(store.prune_inbox(0, Duration::ZERO, 700).await.unwrap(), pruned);
    }
    // Before the position of the last call, and after it.
    mark(&store, 20_000, 21_200).await;
    assert_eq!(store.prune_inbox(0, Duration::ZERO, 100).await.unwrap(), 100);
    mark(&store, 1_500, 2_000).await;
    for pruned in [1_000, 600, 0] {
        assert_eq!(store.prune_inbox(0, Duration::ZERO, 1_000).await.unwrap(), pruned);
    }
    assert_eq!(store.prune_inbox(0, Duration::from_secs(3_600), 100).await.unwrap(), 0);
}
