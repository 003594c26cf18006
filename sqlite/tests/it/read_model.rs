//! The conformance suite of read models, and behaviour of files.

use std::time::{Duration, Instant};

use composable_rust_core::projection::ReadModel as _;
use composable_rust_core::queue::Checkpoint;
use composable_rust_core::store::{ExpectedVersion, StoreError};
use composable_rust_sqlite::{SqliteConnection, SqliteEventStore, SqliteReadModel};
use composable_rust_testing::read_model_conformance::ReadModelBackend;
use sqlx::Executor as _;
use tempfile::TempDir;
use uuid::Uuid;

use crate::make::{append, commit};

struct File {
    folder: TempDir,
}

async fn file() -> File {
    let file = File { folder: tempfile::tempdir().unwrap() };
    let model = file.open().await;
    model.pool().execute("create table number (n integer) strict").await.unwrap();
    model.pool().execute("insert into number values (0)").await.unwrap();
    file
}

impl ReadModelBackend for File {
    type Model = SqliteReadModel;

    async fn open(&self) -> SqliteReadModel {
        SqliteReadModel::open(self.folder.path().join("model.db")).await.unwrap()
    }

    async fn add(&self, connection: &mut SqliteConnection, amount: i64) {
        sqlx::query("update number set n = n + ?").bind(amount).execute(connection).await.unwrap();
    }

    async fn total(&self) -> i64 {
        let model = self.open().await;
        sqlx::query_scalar("select n from number").fetch_one(model.pool()).await.unwrap()
    }
}

composable_rust_testing::read_model_conformance!(file);

#[tokio::test]
async fn many_processes_open_a_read_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.db");
    let opening = (0..6).map(|_| SqliteReadModel::open(&path));
    let model = futures_util::future::try_join_all(opening).await.unwrap().pop().unwrap();
    model.pool().execute("update projection_schema set version = 1000").await.unwrap();
    let newer = SqliteReadModel::open(&path).await;
    assert!(matches!(newer, Err(StoreError::Invalid(_))), "{newer:?}");
    let nowhere = SqliteReadModel::open(folder.path().join("no/model.db")).await;
    assert!(matches!(nowhere, Err(StoreError::Invalid(_))), "{nowhere:?}");
}

/// In one file the two take turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_store_in_the_same_file_writes_in_between() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.db");
    let store = SqliteEventStore::builder(&path).partitions(1).open().await.unwrap();
    let model = SqliteReadModel::open(&path).await.unwrap();
    model.pool().execute("create table number (n integer) strict").await.unwrap();
    let started = Instant::now();
    let appending = async {
        let mut longest = Duration::ZERO;
        for n in 0..200 {
            let before = Instant::now();
            commit(&store, &append(&n.to_string(), ExpectedVersion::EMPTY, 1)).await;
            longest = longest.max(before.elapsed());
        }
        longest
    };
    let projecting = async {
        let mut longest = Duration::ZERO;
        for _ in 0..30 {
            let before = Instant::now();
            let mut transaction = model.begin().await.unwrap();
            longest = longest.max(before.elapsed());
            for n in 0..50_i64 {
                let insert = sqlx::query("insert into number values (?)").bind(n);
                insert.execute(&mut *transaction).await.unwrap();
            }
            model.commit(transaction).await.unwrap();
        }
        longest
    };
    let (append, project) = tokio::join!(appending, projecting);
    println!("waited at most {append:?} and {project:?} of {:?}", started.elapsed());
    assert!(append < Duration::from_secs(5) && project < Duration::from_secs(5));
    drop(store);
    assert!(SqliteEventStore::open(&path).await.is_ok(), "it is still an event log");
}

#[tokio::test]
async fn a_locked_file_is_not_the_projection_s_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.db");
    let model = SqliteReadModel::open(&path).await.unwrap();
    let other = SqliteReadModel::open(&path).await.unwrap();
    let mut transaction = model.begin().await.unwrap();
    let wrong = transaction.execute("insert into nowhere values (1)").await.unwrap_err();
    assert!(!model.is_unavailable(&wrong), "{wrong:?}");
    let mut reader = other.pool().acquire().await.unwrap();
    reader.execute("pragma busy_timeout = 1").await.unwrap();
    let locked = reader.execute("begin immediate").await.unwrap_err();
    assert!(model.is_unavailable(&locked), "{locked:?}");
}

#[tokio::test]
async fn a_constraint_violated_at_the_commit_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let model = SqliteReadModel::open(folder.path().join("model.db")).await.unwrap();
    let create = "create table names (name text primary key, \
        parent text references names deferrable initially deferred)";
    model.pool().execute(create).await.unwrap();
    let mut transaction = model.begin().await.unwrap();
    transaction.execute("insert into names values ('a', 'b')").await.unwrap();
    let committed = model.commit(transaction).await;
    assert!(matches!(committed, Err(StoreError::Invalid(_))), "{committed:?}");
}

#[tokio::test]
async fn a_transaction_rolled_back_by_sqlite_moves_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let model = SqliteReadModel::open(folder.path().join("model.db")).await.unwrap();
    let create = "create table names (name text primary key on conflict rollback) strict";
    model.pool().execute(create).await.unwrap();
    let mut transaction = model.begin().await.unwrap();
    model.lock(&mut transaction, "names", Uuid::nil()).await.unwrap();
    transaction.execute("insert into names values ('a')").await.unwrap();
    // The projection ignores the error.
    transaction.execute("insert into names values ('a')").await.unwrap_err();
    let to = [Checkpoint { partition: 0, offset: 7, event_id: None }];
    let advanced = model.advance(&mut transaction, "names", 1, &to).await;
    assert!(matches!(advanced, Err(StoreError::Invalid(_))), "{advanced:?}");
    drop(transaction);
    assert_eq!(model.load("names").await.unwrap(), None);
    // The connection is usable for the next transaction.
    let mut transaction = model.begin().await.unwrap();
    model.lock(&mut transaction, "names", Uuid::nil()).await.unwrap();
    model.advance(&mut transaction, "names", 1, &to).await.unwrap();
    model.commit(transaction).await.unwrap();
    assert_eq!(model.load("names").await.unwrap().unwrap().checkpoints, to);
}
