//! Loads, pages of the log, snapshots.

use composable_rust_core::store::{EventStore as _, Fingerprint, Snapshot, StreamRow};
use composable_rust_core::{Position, Version};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::database::Database;
use crate::fixtures::{append, bytes, commit, event, exact, load, stream};

fn snapshot(version: u64, fingerprint: u64) -> Snapshot {
    Snapshot {
        version: Version::new(version),
        fingerprint: Fingerprint(fingerprint),
        codec: "json".to_owned(),
        bytes: version.to_be_bytes().to_vec(),
    }
}

#[tokio::test]
async fn a_load_starts_at_the_snapshot() {
    let database = Database::create().await;
    let store = database.store(3).await;
    let order = stream("order-1");
    commit(&store, &append("order-1", exact(0), &[1, 2, 3])).await;
    let load = |fingerprint| {
        store.load_with_snapshot(&order, Fingerprint(fingerprint)).try_collect::<Vec<_>>()
    };
    let events = load(u64::MAX).await.unwrap();
    assert!(events.iter().all(|row| matches!(row, StreamRow::Event(_))) && events.len() == 3);

    for version in [2, 1] {
        let last = event(version.into()).id;
        store.save_snapshot(&order, &snapshot(version, u64::MAX), last).await.unwrap();
    }
    store.save_snapshot(&order, &snapshot(3, 7), event(3).id).await.unwrap();
    let rows = load(u64::MAX).await.unwrap();
    assert_eq!(rows[0], StreamRow::Snapshot(snapshot(2, u64::MAX)));
    assert!(matches!(&rows[1], StreamRow::Event(e) if e.version == Version::new(3)));
    assert_eq!(rows.len(), 2);
    assert_eq!(load(7).await.unwrap(), [StreamRow::Snapshot(snapshot(3, 7))]);
    assert_eq!(load(8).await.unwrap().len(), 3);
    assert_eq!(
        store.load_snapshot(&order, Fingerprint(u64::MAX)).await.unwrap(),
        Some(snapshot(2, u64::MAX))
    );
    assert_eq!(store.load_snapshot(&order, Fingerprint(8)).await.unwrap(), None);
}

#[tokio::test]
async fn the_log_is_read_in_pages() {
    let database = Database::create().await;
    let store = database.store(3).await;
    let names: Vec<String> = (0..30).map(|n| format!("order-{n}")).collect();
    for (n, name) in (1..).zip(&names) {
        commit(&store, &append(name, exact(0), &[n, 100 + n])).await;
    }
    let mut after = Position::start_positions(3);
    let mut seen = 0;
    loop {
        let page = store.read_log(&after, 7).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 21);
        for event in page {
            let place = &mut after[usize::from(event.position.partition)];
            assert_eq!(event.position.offset, place.offset + 1);
            assert_eq!(store.log().partition_of(&event.stream), place.partition);
            place.offset += 1;
            seen += 1;
        }
    }
    assert_eq!(seen, 60);
    assert_eq!(store.heads().await.unwrap(), after);
    assert!(store.read_log(&[], 7).await.unwrap().is_empty());
    let clock = store.now().await.unwrap();
    let recorded = load(&store, "order-1").await[0].recorded_at;
    assert!(recorded <= clock && clock.since(recorded).as_secs() < 60);
}

#[tokio::test]
async fn a_load_can_start_late_and_end_early() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let ids: Vec<u128> = (1..=5_000).collect();
    commit(&store, &append("order-1", exact(0), &ids)).await;
    let order = stream("order-1");
    for _ in 0..20 {
        let mut events = std::pin::pin!(store.load_events(&order, Version::new(10)));
        let first = events.try_next().await.unwrap().unwrap();
        assert_eq!(first.version, Version::new(11));
        assert_eq!(bytes(&first), 11_u128.to_be_bytes());
    }
    assert_eq!(load(&store, "order-1").await.len(), 5_000);
}

/// Pages of a long history.
#[tokio::test]
async fn a_load_that_ends_early_reads_little_of_the_rest() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let ids: Vec<u128> = (1..=20_000).collect();
    commit(&store, &append("order-1", exact(0), &ids)).await;
    let reads = async |store| {
        drop(store);
        let mut connection = database.connection().await;
        database.wait_for_end_of_others(&mut connection).await;
        let reads = "select idx_tup_fetch from pg_stat_user_tables where relname = 'events'";
        sqlx::query_scalar::<_, i64>(reads).fetch_one(&mut connection).await.unwrap()
    };
    let before = reads(store).await;
    let store = database.store(1).await;
    let order = stream("order-1");
    for after in [0, 1_000, 2_000] {
        let events = store.load_events(&order, Version::new(after)).take(1_000);
        let events: Vec<_> = events.try_collect().await.unwrap();
        assert_eq!(events.last().unwrap().version, Version::new(after + 1_000));
    }
    let read = reads(store).await - before;
    assert!((3_000..6_000).contains(&read), "{read} events were read for 3,000");
}

/// The caller wants an earlier state, or cannot decode an event.
#[tokio::test]
async fn a_load_that_ends_early_keeps_its_connection() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let ids: Vec<u128> = (1..=200).collect();
    commit(&store, &append("a-1", exact(0), &ids)).await;
    let mut foreign = database.connection().await;
    let sessions = "select coalesce(array_agg(pid), '{}') from pg_stat_activity \
                    where datname = current_database() and pid <> pg_backend_pid()";
    let before: Vec<i32> = sqlx::query_scalar(sessions).fetch_one(&mut foreign).await.unwrap();
    for _ in 0..10 {
        let stream = stream("a-1");
        let mut events = Box::pin(store.load_events(&stream, Version::ZERO));
        assert!(events.next().await.is_some());
        drop(events);
        assert_eq!(load(&store, "a-1").await.len(), 200);
    }
    let after: Vec<i32> = sqlx::query_scalar(sessions).fetch_one(&mut foreign).await.unwrap();
    let closed: Vec<&i32> = before.iter().filter(|pid| !after.contains(pid)).collect();
    assert!(closed.is_empty(), "of {before:?}, {closed:?} were closed; there are {after:?}");
}
