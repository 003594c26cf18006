//! The databases of tests, on the server of `DATABASE_URL`.

use composable_rust_testing::TestDatabase;
use sqlx::{Connection as _, PgConnection};

async fn exists(on: &TestDatabase, name: &str) -> bool {
    let mut connection = PgConnection::connect(&on.url()).await.unwrap();
    let count: i64 = sqlx::query_scalar("select count(*) from pg_database where datname = $1")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    count == 1
}

#[tokio::test]
async fn a_database_lives_as_long_as_its_value() {
    let (first, second) = (TestDatabase::create().await, TestDatabase::create().await);
    let name = second.name().to_owned();
    assert!(exists(&first, &name).await);

    let mut connected = PgConnection::connect(&second.url()).await.unwrap();
    let database: String =
        sqlx::query_scalar("select current_database()").fetch_one(&mut connected).await.unwrap();
    assert_eq!(database, name);
    drop(second);
    assert!(!exists(&first, &name).await, "dropped under an open connection");
    assert!(connected.ping().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_created_at_once() {
    let creating: Vec<_> = (0..8).map(|_| tokio::spawn(TestDatabase::create())).collect();
    let mut names = std::collections::BTreeSet::new();
    for created in creating {
        names.insert(created.await.unwrap().name().to_owned());
    }
    assert_eq!(names.len(), 8);
}
