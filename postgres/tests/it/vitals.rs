//! Measuring the server and the connections.

use std::time::Duration;

use composable_rust_core::store::EventStore as _;
use sqlx::{Connection as _, Executor as _};

use crate::database::Database;

#[tokio::test]
async fn a_forgotten_transaction_shows_in_the_age_of_the_oldest_snapshot() {
    let database = Database::create().await;
    let store = database.store(1).await;
    let before = store.now().await.unwrap();
    let vitals = store.vitals().await.unwrap();
    assert!(vitals.now >= before && vitals.now.since(before) < Duration::from_secs(60));

    let mut forgotten = database.connection().await;
    let mut transaction = forgotten.begin().await.unwrap();
    transaction.execute("set transaction isolation level repeatable read").await.unwrap();
    transaction.execute("select 1 from log").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let age = store.vitals().await.unwrap().oldest_snapshot;
    assert!(age.is_some_and(|age| age >= Duration::from_millis(200)), "{age:?}");
}

#[tokio::test]
async fn connections_in_use_are_counted() {
    let database = Database::create().await;
    let store = database.store(1).await;
    assert_eq!(store.system(), "postgresql");
    let in_use = || store.pools().iter().map(|pool| pool.in_use).collect::<Vec<_>>();
    assert!(store.pools().iter().all(|pool| pool.max > 0), "{:?}", store.pools());
    assert_eq!(in_use(), [0, 0]);
    let now = std::pin::pin!(store.now());
    let polled = futures_util::poll!(now);
    assert!(polled.is_pending());
    assert_eq!(in_use(), [1, 0]);
}
