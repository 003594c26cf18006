//! Erasing, closing and overriding.

use std::time::Duration;

use composable_rust_core::event::StoredEvent;
use composable_rust_core::event::{CLOSED, ERASED};
use composable_rust_core::queue::{Inbox as _, OutboxKind};
use composable_rust_core::store::{
    AppendOutcome, Due, EventStore as _, ExpectedVersion, Fingerprint, NewOutboxRow, NewTimer,
    Snapshot, StoreError, TimerArming, TimerChange,
};
use composable_rust_core::{EventId, MessageId, Position, Version};
use sqlx::{Connection as _, Executor as _};
use uuid::Uuid;

use crate::database::Database;
use crate::fixtures::{
    append, bytes, commit, committed, committed_before, conflict, content, event, exact, load,
    mark, stream,
};

#[tokio::test]
async fn an_erased_stream_keeps_only_versions_and_ids() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let order = stream("order-1");
    let mut full = append("order-1", exact(0), &[1, 2]).with_inbox(vec![mark(9, 0, 2)]);
    full.outbox = vec![NewOutboxRow {
        id: Uuid::from_u128(1),
        kind: OutboxKind::Call,
        target: "stripe".to_owned(),
        recipient: String::new(),
        content: content("stripe.charge", b"secret"),
        metadata: r#"{"user":"secret"}"#.to_owned(),
    }];
    full.timers = vec![TimerChange::Arm(NewTimer {
        id: "t".to_owned(),
        arming: TimerArming { armed_by: MessageId(Uuid::from_u128(9)), effect_index: 0 },
        due: Due::After(Duration::from_secs(100)),
        content: content("order.late", b"secret"),
        metadata: r#"{"user":"secret"}"#.to_owned(),
    })];
    commit(&store, &full).await;
    commit(&store, &append("order-2", exact(0), &[3])).await;
    let saved = Snapshot {
        version: Version::new(2),
        fingerprint: Fingerprint(1),
        codec: "json".to_owned(),
        bytes: b"secret".to_vec(),
    };
    store.save_snapshot(&order, &saved, event(2).id).await.unwrap();
    store
        .override_event(&order, Version::new(1), &content("order.placed", b"secret"))
        .await
        .unwrap();

    for failed in [
        "update outbox set last_error = 'secret'",
        "update timers set last_error = 'secret'",
        "insert into dead_letters select sequence, index, 1, created_at, created_at, id, null, null, \
         1, partition, kind, target, stream_id, recipient, message_type, codec, message_data, \
         metadata, last_error from outbox",
    ] {
        sqlx::query(failed).execute(&database.pool()).await.unwrap();
    }

    assert_eq!(store.erase_stream(&order).await.unwrap(), 2);
    assert_eq!(store.erase_stream(&order).await.unwrap(), 0);
    let events = load(&store, "order-1").await;
    assert!(events.iter().all(|e| e.name() == ERASED && e.metadata.is_empty()));
    assert_eq!(events.len(), 3, "one of them tells of it");
    assert_eq!(events[1].position, Position::new(0, 2));
    assert_eq!(store.load_snapshot(&order, Fingerprint(1)).await.unwrap(), None);
    let mark =
        store.load_inbox_entry(&order, MessageId(Uuid::from_u128(9))).await.unwrap().unwrap();
    assert!(mark.outcome.is_empty());
    assert_eq!(mark.receipt.version, Version::new(2));
    for (table, error) in
        [("outbox", "last_error"), ("timers", "last_error"), ("dead_letters", "nullif(error, '')")]
    {
        let sql =
            format!("select message_type, message_data, metadata::text, {error} from {table}");
        let row: (String, Vec<u8>, Option<String>, Option<String>) =
            sqlx::query_as(&sql).fetch_one(&database.pool()).await.unwrap();
        assert_eq!(row, (ERASED.to_owned(), Vec::new(), None, None));
    }
    let refused =
        store.override_event(&order, Version::new(1), &content("order.placed", b"x")).await;
    assert!(matches!(refused, Err(StoreError::Invalid(_))));
    assert_eq!(bytes(&load(&store, "order-2").await[0]), 3_u128.to_be_bytes());
    assert_eq!(commit(&store, &append("order-1", exact(3), &[4])).await, committed(4, 0, 5));
}

/// The state was read before the erasure, and is saved during it.
#[tokio::test]
async fn a_snapshot_saved_during_an_erasure_is_deleted() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let order = stream("order-1");
    commit(&store, &append("order-1", exact(0), &[1, 2])).await;
    let saved = Snapshot {
        version: Version::new(2),
        fingerprint: Fingerprint(1),
        codec: "json".to_owned(),
        bytes: b"secret".to_vec(),
    };
    let mut foreign = database.connection().await;
    let mut erasure = foreign.begin().await.unwrap();
    erasure.execute("select erase_stream(0::smallint, 'order-1')").await.unwrap();
    let save = tokio::spawn({
        let (store, order) = (store.clone(), order.clone());
        async move { store.save_snapshot(&order, &saved, event(2).id).await }
    });
    database.wait_for_lock_of("save_snapshot").await;
    erasure.commit().await.unwrap();
    save.await.unwrap().unwrap();
    assert_eq!(store.load_snapshot(&order, Fingerprint(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_closed_stream_accepts_no_appends() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let order = stream("order-1");
    let end = EventId(Uuid::from_u128(99));
    commit(&store, &append("order-1", exact(0), &[1])).await;
    assert_eq!(store.close_stream(&order, Version::ZERO, end).await.unwrap(), conflict(1));
    for _ in 0..2 {
        let closed = store.close_stream(&order, Version::new(1), end).await.unwrap();
        assert_eq!(closed, committed(2, 0, 2));
    }
    for expected in [ExpectedVersion::Any, ExpectedVersion::Exists, exact(2), exact(1)] {
        assert_eq!(commit(&store, &append("order-1", expected, &[5])).await, AppendOutcome::Closed);
        assert_eq!(commit(&store, &append("order-1", expected, &[])).await, AppendOutcome::Closed);
    }
    // An append that was committed before the end is recognised.
    let again = commit(&store, &append("order-1", exact(0), &[1])).await;
    assert_eq!(again, committed_before(1, 0, 1, 2));
    assert_eq!(store.erase_stream(&order).await.unwrap(), 1);
    let events = load(&store, "order-1").await;
    assert_eq!(events.iter().map(StoredEvent::name).collect::<Vec<_>>(), [ERASED, CLOSED]);
    let mut reserved = append("order-2", exact(0), &[]);
    reserved.events = vec![event(6)];
    reserved.events[0].content.name = CLOSED.into();
    assert!(store.append_events(0, &[reserved]).await.is_err());
}

#[tokio::test]
async fn an_override_is_read_by_loads_and_the_log() {
    let database = Database::create().await;
    let store = database.store(3).await;
    let order = stream("order-1");
    commit(&store, &append("order-1", exact(0), &[1, 2, 3])).await;
    let version = Version::new(2);
    for text in ["first", "second"] {
        let mut replacement = content("order.amended", text.as_bytes());
        replacement.version = 7;
        replacement.codec = "other".into();
        store.override_event(&order, version, &replacement).await.unwrap();
    }
    let events = load(&store, "order-1").await;
    assert_eq!(events[1].name(), "order.amended");
    assert_eq!(bytes(&events[1]), b"second");
    assert_eq!(bytes(&events[2]), 3_u128.to_be_bytes());
    let log = store.read_log(&Position::start_positions(3), 10).await.unwrap();
    assert_eq!(log, events);
    let missing = store.override_event(&order, Version::new(4), &content("x", b"")).await;
    assert!(matches!(missing, Err(StoreError::Invalid(_))));
    let original: Vec<u8> = sqlx::query_scalar("select event_data from events where version = 2")
        .fetch_one(&database.pool())
        .await
        .unwrap();
    assert_eq!(original, 2_u128.to_be_bytes());
}
