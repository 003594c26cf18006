//! Counts the transactions of an idle app on PostgreSQL. `cargo xtask bench -p composable-rust
//! --bench idle` takes a minute and a half, and needs a server.

use std::time::Duration;

use composable_rust::postgres::sqlx::{PgPool, query_scalar};
use composable_rust::postgres::{PgConnection, PostgresEventStore, PostgresReadModel};
use composable_rust::prelude::*;
use composable_rust::testing::TestDatabase;
use composable_rust::{Projection, ProjectionError, Recorded};
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

/// The number of transactions of a database; idle sessions report theirs within ten seconds.
async fn transactions(pool: &PgPool) -> i64 {
    let sql = "select xact_commit + xact_rollback from pg_stat_database \
               where datname = current_database()";
    query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// An app with an aggregate, two policies and a projection, which has nothing to do.
#[tokio::main]
async fn main() {
    const WINDOW: Duration = Duration::from_secs(60);
    if std::env::var_os("DATABASE_URL").is_none() {
        println!("idle: skipped; run `cargo xtask bench` to have a server");
        return;
    }
    let database = TestDatabase::create().await;
    let store = PostgresEventStore::connect(&database.url()).await.unwrap();
    let model = PostgresReadModel::connect(&database.url()).await.unwrap();
    let flip = |_: &Recorded<Flip>| -> Option<(Id<Lamp>, Switch)> { None };
    let app = App::builder(store)
        .aggregate::<Lamp>(())
        .on::<Lamp, Lamp, _>("one", flip)
        .on::<Lamp, Lamp, _>("two", flip)
        .projection(Seen, model)
        .build()
        .unwrap();
    app.start();
    let receipt = app.handle(&Lamp::id("1")).send(Switch::Flip).await.unwrap();
    let seen = app.projection::<Seen>();
    seen.wait_for(receipt.position, Duration::from_secs(30)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let pool = PgPool::connect(&database.url()).await.unwrap();
    let before = transactions(&pool).await;
    tokio::time::sleep(WINDOW).await;
    let count = transactions(&pool).await - before;
    println!("an idle app: {count} transactions in {WINDOW:?}");
    app.shutdown(Duration::from_secs(5)).await;
}
