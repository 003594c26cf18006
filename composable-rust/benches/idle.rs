//! Counts what idle apps ask: transactions on PostgreSQL, and calls of the store of two processes
//! on one SQLite file. `cargo xtask bench -p composable-rust
//! --bench idle` takes a minute and a half, and needs a server. The book's chapter on PostgreSQL
//! says which statements they are; `log_statement = 'all'` in the server shows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use composable_rust::postgres::sqlx::{PgPool, query_scalar};
use composable_rust::postgres::{PgConnection, PostgresEventStore, PostgresReadModel};
use composable_rust::prelude::*;
use composable_rust::sqlite::SqliteEventStore;
use composable_rust::store::{EventStore, StoreError};
use composable_rust::testing::{CallKind, Intercept, Intercepted, StoreCall, TestDatabase};
use composable_rust::{AppBuilder, Projection, ProjectionError, Recorded};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Lamp;

#[derive(Debug, Clone, PartialEq, Message)]
enum Switch {
    Flip,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum Flip {
    Flipped,
}

impl Aggregate for Lamp {
    const NAME: &'static str = "lamp";
    type Command = Switch;
    type Event = Flip;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, _: Switch, _: &Context<Self>) -> Decision<Self> {
        record(Flip::Flipped)
    }

    fn apply(&mut self, _: Flip) {}
}

struct Seen;

impl Projection for Seen {
    const NAME: &'static str = "seen";
    type Events = Lamp;
    type Connection = PgConnection;

    async fn project(
        &self,
        _: &Recorded<Flip>,
        _: &mut PgConnection,
    ) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn erase(
        &self,
        _: &composable_rust::StreamId,
        _: &mut PgConnection,
    ) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn clear(&self, _: &mut PgConnection) -> Result<(), ProjectionError> {
        Ok(())
    }
}

/// Counts the calls of a store that are not waits.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicU64>);

impl<S: EventStore> Intercept<S> for Calls {
    async fn call<T: Send>(
        &self,
        call: StoreCall,
        made: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        if call.kind != CallKind::Wait {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        made.await
    }
}

/// The time until an app is idle.
const SETTLE: Duration = Duration::from_secs(15);
/// The time for which an app is observed.
const WINDOW: Duration = Duration::from_secs(60);

/// The number of transactions of a database; idle sessions report theirs within ten seconds.
async fn transactions(pool: &PgPool) -> i64 {
    let sql = "select xact_commit + xact_rollback from pg_stat_database \
               where datname = current_database()";
    query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// An app with an aggregate and two policies.
fn app(store: impl EventStore) -> AppBuilder {
    let flip = |_: &Recorded<Flip>| -> Option<(Id<Lamp>, Switch)> { None };
    App::builder(store)
        .aggregate::<Lamp>(())
        .on::<Lamp, Lamp, _>("one", flip)
        .on::<Lamp, Lamp, _>("two", flip)
}

/// The app with a projection on PostgreSQL, which has nothing to do.
async fn on_postgres() {
    if std::env::var_os("DATABASE_URL").is_none() {
        println!("idle on PostgreSQL: skipped; run `cargo xtask bench` to have a server");
        return;
    }
    let database = TestDatabase::create().await;
    let store = PostgresEventStore::connect(&database.url()).await.unwrap();
    let model = PostgresReadModel::connect(&database.url()).await.unwrap();
    let app = app(store).projection(Seen, model).build().unwrap();
    app.start();
    let receipt = app.handle(&Lamp::id("1")).send(Switch::Flip).await.unwrap();
    let seen = app.projection::<Seen>();
    seen.wait_for(receipt.position, Duration::from_secs(30)).await.unwrap();
    tokio::time::sleep(SETTLE).await;
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let before = transactions(&pool).await;
    tokio::time::sleep(WINDOW).await;
    let count = transactions(&pool).await - before;
    println!("an idle app on PostgreSQL: {count} transactions in {WINDOW:?}");
    app.shutdown(Duration::from_secs(5)).await;
}

/// Two processes on one file, which have nothing to do.
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let (calls, mut apps) = (Calls::default(), Vec::new());
    for _ in 0..2 {
        let store = SqliteEventStore::open(folder.path().join("log.db")).await.unwrap();
        let app = app(Intercepted::layered(store, calls.clone())).build().unwrap();
        app.start();
        apps.push(app);
    }
    apps[0].handle(&Lamp::id("1")).send(Switch::Flip).await.unwrap();
    tokio::time::sleep(SETTLE).await;
    let before = calls.0.load(Ordering::Relaxed);
    tokio::time::sleep(WINDOW).await;
    let count = calls.0.load(Ordering::Relaxed) - before;
    println!("two idle apps on SQLite: {count} calls in {WINDOW:?}");
    for app in apps {
        app.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::main]
async fn main() {
    tokio::join!(on_postgres(), on_sqlite());
}
