//! The health endpoints.

use std::time::Duration;

use axum::Router;
use composable_rust_axum::Health;
use composable_rust_core::store::StoreError;
use composable_rust_runtime::App;
use composable_rust_testing::{InMemoryEventStore, Intercept, Intercepted, StoreCall};
use serde_json::json;

use crate::support::{app, get};

/// A store that does not answer.
struct Hangs;

impl<S: composable_rust_core::store::EventStore> Intercept<S> for Hangs {
    async fn call<T: Send>(
        &self,
        _: StoreCall,
        _: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        std::future::pending().await
    }
}

fn routes(health: &Health) -> Router {
    health.router()
}

#[tokio::test(start_paused = true)]
async fn a_process_is_ready_until_it_drains() {
    let app = app();
    let health = Health::new([("orders", &app)]);
    let ready = get(&routes(&health), "/ready").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json(), json!({ "status": "ready", "reasons": [], "warnings": [] }));

    app.pause().await.unwrap();
    let ready = get(&routes(&health), "/ready").await;
    assert_eq!(ready.status, 200, "no process can resume the log by a restart");
    assert_eq!(ready.json()["warnings"], json!(["orders: the log is paused"]));

    health.drain(Duration::from_secs(5)).await;
    let ready = get(&routes(&health), "/ready").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reasons"], json!(["the process is shutting down"]));
    assert_eq!(get(&routes(&health), "/live").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_store_hangs_is_not_ready() {
    let store = Intercepted::layered(InMemoryEventStore::new(), Hangs);
    let app = App::builder(store).build().unwrap();
    let ready = get(&routes(&Health::new([("orders", &app)])), "/ready").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json()["reasons"], json!(["orders: the store does not respond"]));
}
