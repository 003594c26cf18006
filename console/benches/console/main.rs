//! The time of every page over a log of ten million events, on SQLite and, where `DATABASE_URL`
//! names a server, on PostgreSQL.
//!
//! ```sh
//! cargo xtask postgres cargo bench -p composable-rust-console             # about 15 minutes, 5 GB
//! cargo bench -p composable-rust-console -- sqlite 1000000
//! ```
//!
//! Each log is verified, and removed at the end.

#[path = "../../tests/it/app.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod app;
mod fill;
mod generator;
mod measure;

use std::time::{Instant, SystemTime};

use composable_rust_admin::{Admin, Operator};
use composable_rust_core::store::EventStore;
use composable_rust_postgres::PostgresEventStore;
use composable_rust_runtime::App;
use composable_rust_sqlite::SqliteEventStore;
use composable_rust_testing::TestDatabase;

use crate::app::{Order, Stock};
use crate::generator::Generator;

const EVENTS: u64 = 10_000_000;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|of| !of.starts_with('-')).collect();
    let events = args.iter().find_map(|of| of.parse().ok()).unwrap_or(EVENTS);
    let is_wanted = |name: &str| {
        let mut names = args.iter().filter(|of| of.parse::<u64>().is_err()).peekable();
        names.peek().is_none() || names.any(|of| of == name)
    };
    let generator = Generator::new(events, SystemTime::now().into());
    if is_wanted("sqlite") {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log.db");
        drop(SqliteEventStore::open(&file).await.unwrap());
        let began = Instant::now();
        fill::sqlite(&file, &generator).await;
        run("SQLite", SqliteEventStore::open(&file).await.unwrap(), &generator, began).await;
    }
    if is_wanted("postgres") && std::env::var_os("DATABASE_URL").is_some() {
        let database = TestDatabase::create().await;
        let store = PostgresEventStore::connect(&database.url()).await.unwrap();
        let began = Instant::now();
        fill::postgres(&database.url(), &generator, store.log().partitions).await;
        run("PostgreSQL", store, &generator, began).await;
    }
}

/// Verifies a filled log, adds what waits, and measures the pages.
async fn run(name: &str, store: impl EventStore, generator: &Generator, began: Instant) {
    println!("{name}: filled in {:.0?}", began.elapsed());
    let app = App::builder(store).aggregate::<Order>(()).aggregate::<Stock>(()).build().unwrap();
    let admin = Admin::new(&app, Operator::named("bench"));
    let began = Instant::now();
    let found = admin.verify(|_| ()).await.unwrap();
    println!(
        "{name}: verified {} events of {} streams in {:.0?}: {} problems",
        found.events,
        found.streams,
        began.elapsed(),
        found.problems
    );
    assert_eq!(found.listed, [""; 0]);
    fill::waiting(&app).await;
    measure::pages(name, &admin, generator).await;
}
