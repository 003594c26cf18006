//! The conformance suite of read models, and behaviour of PostgreSQL.

use std::time::Duration;

use composable_rust_core::projection::ReadModel as _;
use composable_rust_core::queue::Checkpoint;
use composable_rust_core::store::StoreError;
use composable_rust_postgres::{PgConnection, PostgresReadModel};
use composable_rust_testing::read_model_conformance::ReadModelBackend;
use sqlx::Executor as _;
use uuid::Uuid;

use crate::database::Database;

struct Postgres(Database);

async fn postgres() -> Postgres {
    let database = Database::create().await;
    let mut connection = database.connection().await;
    connection.execute("create table number (n bigint)").await.unwrap();
    connection.execute("insert into number values (0)").await.unwrap();
    // The isolation level does not depend on the default.
    let alter = format!(
        "alter database {} set default_transaction_isolation = serializable",
        database.name()
    );
    connection.execute(alter.as_str()).await.unwrap();
    Postgres(database)
}

impl ReadModelBackend for Postgres {
    type Model = PostgresReadModel;

    async fn open(&self) -> PostgresReadModel {
        PostgresReadModel::connect(&self.0.url()).await.unwrap()
    }

    async fn add(&self, connection: &mut PgConnection, amount: i64) {
        sqlx::query("update number set n = n + $1").bind(amount).execute(connection).await.unwrap();
    }

    async fn total(&self) -> i64 {
        let mut connection = self.0.connection().await;
        sqlx::query_scalar("select n from number").fetch_one(&mut connection).await.unwrap()
    }

    async fn wait_for_blocked_transaction(&self) {
        self.0.wait_for_lock().await;
    }
}

composable_rust_testing::read_model_conformance!(postgres);

#[tokio::test]
async fn many_processes_open_a_read_model_beside_an_event_store() {
    let database = Database::create().await;
    let url = database.url();
    let opening = (0..6).map(|_| PostgresReadModel::connect(&url));
    let (opened, _store) = tokio::join!(
        futures_util::future::try_join_all(opening),
        database.builder().partitions(2).connect()
    );
    let model = opened.unwrap().pop().unwrap();
    assert_eq!(model.load("totals").await.unwrap(), None);
    model.pool().execute("update projection_schema set version = 1000").await.unwrap();
    let newer = PostgresReadModel::connect(&url).await;
    assert!(matches!(newer, Err(StoreError::Invalid(_))), "{newer:?}");
    for wrong in ["sqlite:x", "postgres://[nowhere"] {
        let refused = PostgresReadModel::connect(wrong).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    }
    let nobody = PostgresReadModel::connect("postgres://127.0.0.1:1/shop").await;
    assert!(matches!(nobody, Err(StoreError::Unavailable(_))), "{nobody:?}");
}

#[tokio::test]
async fn a_lost_connection_is_not_the_projection_s_error() {
    let database = Database::create().await;
    let model = PostgresReadModel::connect(&database.url()).await.unwrap();
    let mut transaction = model.begin().await.unwrap();
    let wrong = transaction.execute("select 1 / 0").await.unwrap_err();
    assert!(!model.is_unavailable(&wrong), "{wrong:?}");
    drop(transaction);
    let mut transaction = model.begin().await.unwrap();
    let own: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *transaction).await.unwrap();
    let mut other = database.connection().await;
    sqlx::query("select pg_terminate_backend($1)").bind(own).execute(&mut other).await.unwrap();
    let lost = transaction.execute("select 1").await.unwrap_err();
    assert!(model.is_unavailable(&lost), "{lost:?}");
    drop(transaction);
    assert!(model.load("totals").await.is_ok(), "another connection is opened");
}

/// As on a former primary after a failover.
#[tokio::test]
async fn a_read_only_connection_is_not_reused() {
    let database = Database::create().await;
    let model = PostgresReadModel::connect(&database.url()).await.unwrap();
    let all = (0..8).map(|_| model.pool().acquire());
    for mut connection in futures_util::future::try_join_all(all).await.unwrap() {
        connection.execute("set default_transaction_read_only = on").await.unwrap();
        connection.return_to_pool().await;
    }
    assert_eq!(model.pool().num_idle(), 8);
    let mut transaction = model.begin().await.unwrap();
    transaction.execute("create table totals (cents bigint)").await.unwrap();
    model.commit(transaction).await.unwrap();
}

#[tokio::test]
async fn a_frozen_process_blocks_others_for_a_limited_time() {
    let database = Database::create().await;
    let model = PostgresReadModel::connect(&database.url()).await.unwrap();
    let timeout: String = sqlx::query_scalar("show idle_in_transaction_session_timeout")
        .fetch_one(model.pool())
        .await
        .unwrap();
    assert_eq!(timeout, "30s");
    let mut frozen = model.begin().await.unwrap();
    frozen.execute("set local idle_in_transaction_session_timeout = 200").await.unwrap();
    let to = Checkpoint { partition: 0, offset: 1, event_id: None };
    model.lock(&mut frozen, "totals", Uuid::nil()).await.unwrap();
    model.advance(&mut frozen, "totals", 1, &[to]).await.unwrap();
    let mut next = model.begin().await.unwrap();
    let locking = model.lock(&mut next, "totals", Uuid::nil());
    let locked = tokio::time::timeout(Duration::from_secs(10), locking).await;
    assert_eq!(locked.expect("it waits for 200 ms").unwrap().checkpoints, []);
    model.commit(next).await.unwrap();
    assert!(model.commit(frozen).await.is_err());
}

/// PostgreSQL reports no error when an aborted transaction commits; it rolls back.
#[tokio::test]
async fn a_transaction_with_an_ignored_error_does_not_commit() {
    let database = Database::create().await;
    let model = PostgresReadModel::connect(&database.url()).await.unwrap();
    let to = Checkpoint { partition: 0, offset: 1, event_id: None };
    let mut transaction = model.begin().await.unwrap();
    model.lock(&mut transaction, "totals", Uuid::nil()).await.unwrap();
    let _ignored = transaction.execute("select 1 / 0").await.unwrap_err();
    let advanced = model.advance(&mut transaction, "totals", 1, &[to]).await;
    assert!(matches!(&advanced, Err(StoreError::Invalid(reason)) if reason.contains("ignored")));
    drop(transaction);
    assert_eq!(model.load("totals").await.unwrap(), None);
}

#[tokio::test]
async fn a_constraint_violated_at_the_commit_is_invalid() {
    let database = Database::create().await;
    let model = PostgresReadModel::connect(&database.url()).await.unwrap();
    let create = "create table names (name text unique deferrable initially deferred)";
    model.pool().execute(create).await.unwrap();
    let mut transaction = model.begin().await.unwrap();
    transaction.execute("insert into names values ('a'), ('a')").await.unwrap();
    let committed = model.commit(transaction).await;
    assert!(matches!(committed, Err(StoreError::Invalid(_))), "{committed:?}");
}

#[tokio::test]
async fn schemas_separate_read_models() {
    let database = Database::create().await;
    for (n, schema) in (1..).zip(["first", r#"an "odd\ one"#]) {
        let builder = PostgresReadModel::builder(&database.url()).schema(schema);
        let opening = (0..3).map(|_| builder.clone().connect());
        let model = futures_util::future::try_join_all(opening).await.unwrap().pop().unwrap();
        model.pool().execute("create table names (name text)").await.unwrap();
        let mut transaction = model.begin().await.unwrap();
        let record = model.lock(&mut transaction, "totals", Uuid::from_u128(n)).await.unwrap();
        assert_eq!(record.log, Uuid::from_u128(n));
        model.commit(transaction).await.unwrap();
    }
    let elsewhere = PostgresReadModel::connect(&database.url()).await.unwrap();
    assert_eq!(elsewhere.load("totals").await.unwrap(), None);
}
