//! The outcomes of appends, and the rows that they write.

use std::time::Duration;

use composable_rust_core::queue::{Inbox as _, InboxEntry, OutboxKind};
use composable_rust_core::store::{
    Append, AppendOutcome, Due, EventStore as _, ExpectedVersion, NewOutboxRow, NewTimer,
    StoreError, TimerArming, TimerChange,
};
use composable_rust_core::{MessageId, Position, Receipt, Timestamp, Version};
use sqlx::Row as _;
use uuid::Uuid;

use crate::database::Database;
use crate::fixtures::{
    append, commit, committed, committed_before, conflict, content, event, exact, load, mark,
};

#[tokio::test]
async fn a_single_event_gets_every_outcome() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let any = ExpectedVersion::Any;
    assert_eq!(commit(&store, &append("a-1", ExpectedVersion::Exists, &[9])).await, conflict(0));
    assert_eq!(commit(&store, &append("a-1", exact(0), &[1])).await, committed(1, 0, 1));
    assert_eq!(commit(&store, &append("a-2", any, &[2])).await, committed(1, 0, 2));
    assert_eq!(commit(&store, &append("a-1", exact(0), &[9])).await, conflict(1));
    assert_eq!(commit(&store, &append("a-1", exact(2), &[9])).await, conflict(1));
    assert_eq!(commit(&store, &append("a-1", exact(u64::MAX), &[9])).await, conflict(1));
    assert_eq!(
        commit(&store, &append("a-1", ExpectedVersion::Exists, &[3])).await,
        committed(2, 0, 3)
    );
    // The same append again is committed by then, with the earlier receipt.
    let again = commit(&store, &append("a-1", exact(0), &[1])).await;
    assert_eq!(again, committed_before(1, 0, 1, 2));
    assert_eq!(load(&store, "a-1").await.len(), 2);
}

#[tokio::test]
async fn rejected_appends_do_not_affect_their_neighbours() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-1", exact(0), &[1, 2])).await;
    let batch = [
        append("a-2", exact(0), &[3, 4]),
        append("a-1", exact(1), &[5]),
        append("a-1b", exact(0), &[6]).with_inbox(vec![mark(60, 0, 1)]),
        append("a-3", ExpectedVersion::Exists, &[7, 8, 9]).with_inbox(vec![mark(70, 0, 3)]),
        append("a-4", ExpectedVersion::Any, &[10]).with_inbox(vec![mark(71, 0, 1), mark(72, 1, 0)]),
    ];
    let outcomes = store.append_events(0, &batch).await.unwrap();
    let expected =
        [committed(2, 0, 4), conflict(2), committed(1, 0, 5), conflict(0), committed(1, 0, 6)];
    assert_eq!(outcomes, expected);
    let again = store.append_events(0, &batch).await.unwrap();
    assert_eq!(again, expected);
    let log = store.read_log(&[Position::new(0, 0)], 100).await.unwrap();
    let offsets: Vec<u64> = log.iter().map(|event| event.position.offset).collect();
    assert_eq!(offsets, [1, 2, 3, 4, 5, 6]);
    let mark =
        store.load_inbox_entry(&batch[4].stream, MessageId(Uuid::from_u128(72))).await.unwrap();
    assert_eq!(mark.unwrap().receipt, Receipt { version: Version::new(1), position: None });
    let lost =
        store.load_inbox_entry(&batch[3].stream, MessageId(Uuid::from_u128(70))).await.unwrap();
    assert_eq!(lost, None);
}

#[tokio::test]
async fn inbox_entries_are_checked_before_versions() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let first = append("a-1", exact(0), &[1]).with_inbox(vec![mark(50, 0, 1)]);
    assert_eq!(commit(&store, &first).await, committed(1, 0, 1));
    let stands = InboxEntry {
        message_id: MessageId(Uuid::from_u128(50)),
        digest: 50 << 64 | 1,
        receipt: Receipt { version: Version::new(1), position: Some(Position::new(0, 1)) },
        outcome: vec![1, 2, 3],
    };
    let duplicate = AppendOutcome::Duplicate(vec![stands]);
    // Decided again at another version, at the same version with other events, and rejected.
    let later = append("a-1", exact(1), &[2]).with_inbox(vec![mark(51, 0, 0), mark(50, 0, 1)]);
    assert_eq!(commit(&store, &later).await, duplicate);
    let other = append("a-1", exact(0), &[3]).with_inbox(vec![mark(50, 0, 1)]);
    assert_eq!(commit(&store, &other).await, duplicate);
    let refused = append("a-1", exact(1), &[]).with_inbox(vec![mark(50, 0, 0)]);
    assert_eq!(commit(&store, &refused).await, duplicate);
    let any = append("a-1", ExpectedVersion::Any, &[]).with_inbox(vec![mark(50, 0, 0)]);
    assert_eq!(commit(&store, &any).await, duplicate);
    // The same append again.
    assert_eq!(commit(&store, &first).await, committed(1, 0, 1));
    // A rejection stays one, also when its id is used for another message.
    let refusal = append("a-1", exact(1), &[]).with_inbox(vec![mark(60, 0, 0)]);
    let version = Version::new(1);
    let kept = AppendOutcome::Committed { version, position: None, actual: version };
    assert_eq!(commit(&store, &refusal).await, kept);
    assert_eq!(commit(&store, &refusal).await, kept);
    let mut other_message = refusal.clone();
    other_message.inbox[0].digest = 0;
    assert!(matches!(commit(&store, &other_message).await, AppendOutcome::Duplicate(_)));
    let mut decided_otherwise = refusal.clone();
    decided_otherwise.inbox[0].outcome = vec![4];
    assert!(matches!(commit(&store, &decided_otherwise).await, AppendOutcome::Duplicate(_)));
}

#[tokio::test]
async fn an_append_at_any_version_is_recognised_by_its_entries() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-1", exact(0), &[1, 2])).await;
    let any = append("a-1", ExpectedVersion::Any, &[3, 4])
        .with_inbox(vec![mark(50, 0, 1), mark(51, 1, 1)]);
    assert_eq!(commit(&store, &any).await, committed(4, 0, 4));
    commit(&store, &append("a-1", exact(4), &[5])).await;
    assert_eq!(commit(&store, &any).await, committed_before(4, 0, 4, 5));
    assert_eq!(load(&store, "a-1").await.len(), 5);
}

#[tokio::test]
async fn an_append_without_events_checks_the_version() {
    let database = Database::create().await;
    let store = database.store(3).await;
    let nothing = |expected| append("a-1", expected, &[]);
    let version = Version::ZERO;
    let passed = AppendOutcome::Committed { version, position: None, actual: version };
    assert_eq!(commit(&store, &nothing(exact(0))).await, passed);
    assert_eq!(commit(&store, &nothing(exact(3))).await, conflict(0));
    assert_eq!(store.append_events(0, &[]).await.unwrap(), []);
}

#[tokio::test]
async fn invalid_requests_are_named_and_write_nothing() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let mut bad = append("a-2", exact(0), &[2]);
    bad.events[0].metadata = r#"{"user":"\u0000"}"#.to_owned();
    let error = store.append_events(0, &[append("a-1", exact(0), &[1]), bad]).await.unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(what) if what.contains("a-2")), "{error}");
    assert!(load(&store, "a-1").await.is_empty());
    // Errors that only the server can find are rejections as well.
    let mut odd = append("a-2", exact(0), &[2]);
    odd.events[0].metadata = r#"{"user":"\ud800"}"#.to_owned();
    let error = store.append_events(0, &[odd]).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
}

fn effect(n: u128) -> NewOutboxRow {
    NewOutboxRow {
        id: Uuid::from_u128(n),
        kind: if n % 2 == 0 { OutboxKind::Dispatch } else { OutboxKind::Call },
        target: "payment".to_owned(),
        recipient: "payment-1".to_owned(),
        content: content("payment.charge", &[7]),
        metadata: String::new(),
    }
}

fn arm(id: &str, due: Due) -> TimerChange {
    TimerChange::Arm(NewTimer {
        id: id.to_owned(),
        arming: TimerArming { armed_by: MessageId(Uuid::from_u128(5)), effect_index: u32::MAX },
        due,
        content: content("checkout.timed_out", &[8]),
        metadata: r#"{"a":1}"#.to_owned(),
    })
}

fn cancel(id: &str) -> TimerChange {
    TimerChange::Cancel { id: id.to_owned() }
}

#[tokio::test]
async fn effects_commit_with_their_events() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let mut winner = append("a-1", exact(0), &[1]);
    winner.outbox = vec![effect(11), effect(12)];
    let mut loser = append("a-2", exact(1), &[2]);
    loser.outbox = vec![effect(13)];
    loser.timers = vec![arm("t", Due::After(Duration::ZERO))];
    let mut last = append("a-3", exact(0), &[]);
    last.outbox = vec![effect(14)];
    store.append_events(0, &[winner, loser, last]).await.unwrap();
    let mut next = append("a-1", exact(1), &[]);
    next.outbox = vec![effect(15)];
    commit(&store, &next).await;
    let rows = sqlx::query("select id, kind, stream_id from outbox order by sequence, index")
        .fetch_all(&database.pool())
        .await
        .unwrap();
    let ids: Vec<(u128, String, String)> =
        rows.iter().map(|row| (row.get::<Uuid, _>(0).as_u128(), row.get(1), row.get(2))).collect();
    let row = |id, kind: &str, stream: &str| (id, kind.to_owned(), stream.to_owned());
    assert_eq!(
        ids,
        [
            row(11, "call", "a-1"),
            row(12, "dispatch", "a-1"),
            row(14, "dispatch", "a-3"),
            row(15, "call", "a-1")
        ]
    );
    let timers: i64 = sqlx::query_scalar("select count(*) from timers")
        .fetch_one(&database.pool())
        .await
        .unwrap();
    assert_eq!(timers, 0);
}

async fn timers(database: &Database) -> Vec<(String, i64)> {
    let sql = "select timer_id, (extract(epoch from due - armed_at) * 1000000)::bigint \
               from timers order by timer_id";
    sqlx::query_as(sql).fetch_all(&database.pool()).await.unwrap()
}

#[tokio::test]
async fn timers_are_replaced_cancelled_and_cleared() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let change = |timers: Vec<TimerChange>, cancels_timers| Append {
        timers,
        cancels_timers,
        ..append("a-1", ExpectedVersion::Any, &[])
    };
    let seconds = |n| Due::After(Duration::from_secs(n));
    commit(&store, &change(vec![arm("x", seconds(1)), arm("y", seconds(2))], false)).await;
    commit(&store, &change(vec![cancel("y"), arm("x", seconds(5)), arm("x", seconds(3))], false))
        .await;
    assert_eq!(timers(&database).await, [("x".to_owned(), 3_000_000)]);
    let changes = vec![arm("z", seconds(1)), cancel("z"), arm("y", Due::After(Duration::MAX))];
    commit(&store, &change(changes, false)).await;
    assert_eq!(timers(&database).await.len(), 2);
    let moment = Timestamp::from_micros(1_740_830_400_500_001);
    commit(&store, &change(vec![arm("x", Due::At(moment)), cancel("y")], false)).await;
    let due: i64 =
        sqlx::query_scalar("select (extract(epoch from due) * 1000000)::bigint from timers")
            .fetch_one(&database.pool())
            .await
            .unwrap();
    assert_eq!(due, moment.as_micros());
    let extremes = [i64::MIN, i64::MAX].map(|n| Due::At(Timestamp::from_micros(n)));
    let changes = vec![arm("p", extremes[0]), arm("q", extremes[1])];
    commit(&store, &change(changes, false)).await;
    commit(&store, &change(vec![arm("r", seconds(1)), arm("q", seconds(2))], true)).await;
    let left = [("q".to_owned(), 2_000_000), ("r".to_owned(), 1_000_000)];
    assert_eq!(timers(&database).await, left);
    commit(&store, &change(vec![], true)).await;
    assert!(timers(&database).await.is_empty());
}

#[tokio::test]
async fn unusual_names_and_sizes_are_stored_unchanged() {
    let database = Database::create().await;
    let store = database.store(3).await;
    let long = "ü'\"/\\%_-".chars().cycle().take(700).collect::<String>();
    for name in ["a-ä/ö \"quoted\" 'x' \\", &format!("a-{long}"), "a--", "a-\u{1F980}\n\t"] {
        let mut one = append(name, exact(0), &[1]);
        one.events[0].content.bytes = vec![7; 1024 * 1024];
        let mut empty = event(2);
        empty.content.bytes = Vec::new();
        empty.metadata = String::new();
        one.events.push(empty);
        commit(&store, &one).await;
        let events = load(&store, name).await;
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].stream.as_str(), name);
        assert_eq!(
            events[0].content,
            composable_rust_core::event::StoredContent::Present(one.events[0].content.clone())
        );
        assert_eq!(
            events[1].content,
            composable_rust_core::event::StoredContent::Present(one.events[1].content.clone())
        );
        assert_eq!(events[1].metadata, "");
    }
}
