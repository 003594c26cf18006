//! Servers that do not answer.

use std::time::Duration;

use composable_rust_core::{Append, EventStore as _, Version};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::{Instant, sleep, timeout};

use crate::database::Database;
use crate::fixtures::{append, commit, committed, exact, load};

#[tokio::test]
async fn a_statement_that_takes_too_long_is_unavailable() {
    let database = Database::create().await;
    let store = database
        .builder()
        .partitions(1)
        .statement_timeout(Duration::from_millis(200))
        .connect()
        .await
        .unwrap();
    let mut foreign = database.connection().await;
    let mut holder = foreign.begin().await.unwrap();
    holder.execute("select from partitions for update").await.unwrap();
    let one: Append = append("a-1", exact(0), &[1]);
    let start = Instant::now();
    let error = store.append_events(0, std::slice::from_ref(&one)).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(20));
    holder.rollback().await.unwrap();
    assert_eq!(commit(&store, &one).await, committed(1, 0, 1));
}

#[tokio::test]
async fn a_lost_connection_is_unavailable_once() {
    let database = Database::create().await;
    let store = database.store(1).await;
    commit(&store, &append("a-1", exact(0), &[1])).await;
    let mut foreign = database.connection().await;
    foreign
        .execute(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    sleep(Duration::from_millis(200)).await;
    let one = append("a-1", exact(1), &[2]);
    let error = store.append_events(0, std::slice::from_ref(&one)).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(commit(&store, &one).await, committed(2, 0, 2));
    assert_eq!(load(&store, "a-1").await.last().unwrap().version, Version::new(2));
}

/// A server that takes no connections: everything says so, and nothing turns in circles.
#[tokio::test]
async fn everything_is_unavailable_while_the_server_is() {
    let database = Database::create().await;
    let store =
        database.builder().partitions(1).poll_interval(Duration::from_millis(20)).connect().await;
    let store = store.unwrap();
    commit(&store, &append("a-1", exact(0), &[1])).await;
    let mut server = PgConnection::connect(&std::env::var("DATABASE_URL").unwrap()).await.unwrap();
    for statement in [
        format!("alter database {} allow_connections false", database.name()),
        format!(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'",
            database.name()
        ),
    ] {
        server.execute(statement.as_str()).await.unwrap();
    }
    let two = append("a-1", exact(1), &[2]);
    let heads = [composable_rust_core::Position::new(0, 1)];
    for _ in 0..3 {
        let waited = timeout(Duration::from_secs(30), store.wait_for_events(&heads)).await.unwrap();
        assert!(waited.unwrap_err().is_transient());
        assert!(store.heads().await.unwrap_err().is_transient());
        let appended = store.append_events(0, std::slice::from_ref(&two)).await;
        assert!(appended.unwrap_err().is_transient());
    }
    let again = format!("alter database {} allow_connections true", database.name());
    server.execute(again.as_str()).await.unwrap();
    assert_eq!(commit(&store, &two).await, committed(2, 0, 2));
    timeout(Duration::from_secs(30), store.wait_for_events(&heads)).await.unwrap().unwrap();
}
