//! Every statement finds its rows by an index, also one that was planned when there were none.

use std::time::Duration;

use composable_rust_core::{
    Due, EventId, EventStore as _, ExpectedVersion, Fingerprint, MessageId, NewTimer, Position,
    Snapshot, TimerChange, Verdict, Version,
};
use composable_rust_postgres::PostgresEventStore;
use futures_util::TryStreamExt as _;
use tokio::time::sleep;
use uuid::Uuid;

use crate::database::Database;
use crate::fixtures::{append, commit, content, exact, mark, stream};

/// How often each table was read from end to end. Backends have reported all when they are gone.
async fn scans(database: &Database, store: PostgresEventStore) -> Vec<(String, i64)> {
    drop(store);
    let mut connection = database.connection().await;
    let others = "select count(*) from pg_stat_activity \
                  where datname = current_database() and pid <> pg_backend_pid()";
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut connection).await.unwrap() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    sqlx::query_as(
        "select relname::text, seq_scan from pg_stat_user_tables \
         where relname not in ('log', 'partitions') order by relname",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap()
}

async fn use_everything(store: &PostgresEventStore, round: u128) {
    let order = stream(&format!("order-{round}"));
    let timer = |id: &str| {
        TimerChange::Arm(NewTimer {
            id: id.to_owned(),
            arming: (MessageId(Uuid::from_u128(round)), 0),
            due: Due::After(Duration::from_secs(60)),
            content: content("order.late", b""),
            metadata: String::new(),
        })
    };
    let mut first =
        append(order.as_str(), exact(0), &[round, round + 1]).with_marks(vec![mark(round, 0, 2)]);
    first.timers = vec![timer("t"), timer("u")];
    let verdict = commit(store, &first).await;
    assert_eq!(commit(store, &first).await, verdict);
    let duplicate = append(order.as_str(), exact(2), &[1]).with_marks(vec![mark(round, 0, 1)]);
    assert!(matches!(commit(store, &duplicate).await, Verdict::Duplicate(_)));
    let mut second = append(order.as_str(), ExpectedVersion::Exists, &[]);
    second.timers = vec![TimerChange::Cancel { id: "t".to_owned() }];
    commit(store, &second).await;
    commit(store, &append(order.as_str(), exact(2), &[round + 2])).await;
    let saved = Snapshot {
        version: Version::new(1),
        fingerprint: Fingerprint(1),
        codec: "json".to_owned(),
        bytes: Vec::new(),
    };
    store.save_snapshot(&order, &saved).await.unwrap();
    store.override_event(&order, Version::new(1), &content("order.placed", b"")).await.unwrap();
    store.load_events(&order, Version::ZERO).try_collect::<Vec<_>>().await.unwrap();
    store.load_with_snapshot(&order, Fingerprint(1)).try_collect::<Vec<_>>().await.unwrap();
    store.read_log(&Position::beginnings(3), 10).await.unwrap();
    store.heads().await.unwrap();
    store.load_mark(&order, MessageId(Uuid::from_u128(round))).await.unwrap();
    store.erase_stream(&order).await.unwrap();
    let end = EventId(Uuid::from_u128(round + 3));
    store.close_stream(&order, Version::new(3), end).await.unwrap();
}

#[tokio::test]
async fn no_table_is_read_from_end_to_end() {
    let database = Database::create().await;
    let before = scans(&database, database.store(3).await).await;
    let store = database.store(3).await;
    for round in 1..=10 {
        use_everything(&store, round * 100).await;
    }
    assert_eq!(scans(&database, store).await, before);
}
