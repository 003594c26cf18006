//! Opening stores by their URLs.

use std::error::Error;

use composable_rust::prelude::*;
use composable_rust::{ConnectError, StoreUrl, connect, postgres, sqlite};
use composable_rust_testing::TestDatabase;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Lamp {
    on: bool,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum LampCommand {
    SwitchOn,
}

#[derive(Debug, Clone, PartialEq, Message)]
enum LampEvent {
    SwitchedOn,
}

impl Aggregate for Lamp {
    const NAME: &'static str = "lamp";
    type Command = LampCommand;
    type Event = LampEvent;
    type Rejection = std::convert::Infallible;
    type Environment = ();

    fn decide(&self, _: LampCommand, _: &Context<Self>) -> Decision<Self> {
        record(LampEvent::SwitchedOn)
    }

    fn apply(&mut self, LampEvent::SwitchedOn: LampEvent) {
        self.on = true;
    }
}

async fn app(url: &StoreUrl) -> App {
    let store = url.connect().await.expect("the store opens");
    App::builder(store).aggregate::<Lamp>(()).build().expect("a correct app")
}

async fn is_on(app: &App) -> bool {
    app.handle(&Lamp::id("kitchen")).state(|lamp| lamp.on).await.expect("the lamp loads")
}

/// Switches the lamp on, and opens the store at the same URL again.
async fn switch_on_and_reopen(url: &StoreUrl) -> App {
    let first = app(url).await;
    assert!(!is_on(&first).await);
    first.handle(&Lamp::id("kitchen")).send(LampCommand::SwitchOn).await.expect("the lamp exists");
    assert!(is_on(&first).await);
    app(url).await
}

/// Returns the texts of an error and of its sources.
fn texts(error: &ConnectError) -> String {
    let mut texts = String::new();
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        texts.push_str(&[error.to_string(), format!("{error:?}")].join("\n"));
        next = error.source();
    }
    texts
}

#[tokio::test]
async fn a_file_keeps_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let url: StoreUrl = format!("sqlite:{}/lamp.db", folder.path().display()).parse().unwrap();
    assert!(is_on(&switch_on_and_reopen(&url).await).await);
}

#[tokio::test]
async fn a_database_keeps_its_events() {
    let database = TestDatabase::create().await;
    assert!(is_on(&switch_on_and_reopen(&database.url().parse().unwrap()).await).await);
}

#[tokio::test]
async fn the_schemas_of_a_database_hold_separate_stores() {
    let database = TestDatabase::create().await;
    let url =
        |schema: &str| StoreUrl::Postgres { url: database.url(), schema: Some(schema.to_owned()) };
    assert!(is_on(&switch_on_and_reopen(&url("upstairs")).await).await);
    assert!(!is_on(&app(&url("downstairs")).await).await);
}

#[tokio::test]
async fn a_store_in_memory_is_empty_whenever_it_is_opened() {
    assert!(!is_on(&switch_on_and_reopen(&"memory:".parse().unwrap()).await).await);
}

#[tokio::test]
async fn an_adapter_says_why_it_cannot_open_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/missing/lamp.db", folder.path().display());
    let error = connect(&url).await.unwrap_err();
    assert!(matches!(error, ConnectError::Sqlite(sqlite::ConnectError::NoFolder { .. })));

    let error = connect("postgres://app:secret@localhost:1/lamp").await.unwrap_err();
    let ConnectError::Postgres(postgres::ConnectError::Unreachable { .. }) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(error.to_string(), "cannot connect to the PostgreSQL server at localhost:1");
}

#[tokio::test]
async fn no_error_prints_a_password() {
    for url in [
        "mysql://app:secret@localhost/lamp",
        "app:secret@localhost/lamp",
        "postgres:app:secret@localhost/lamp",
        "postgres://app:secret@localhost:1/lamp",
        "postgres://app:secret@localhost:port/lamp",
        "postgres://app:secret@[::/lamp",
        "postgres://app:secret@localhost:1/lamp?sslmode=never",
        "postgres://app:se%FFcret@localhost:1/lamp",
    ] {
        let error = connect(url).await.unwrap_err();
        assert!(!texts(&error).contains("secret"), "{}", texts(&error));
    }
}
