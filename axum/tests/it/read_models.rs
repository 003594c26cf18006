//! Reading what one has written.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::Method;
use axum::routing::get;
use composable_rust_axum::{Health, Json, Problem, WaitFor, projection_positions};
use composable_rust_core::{Projection, ProjectionError, Recorded};
use composable_rust_runtime::App;
use composable_rust_testing::{InMemoryEventStore, InMemoryReadModel};
use futures_util::StreamExt as _;
use tower::ServiceExt as _;

use crate::counted_reads::CountedReads;
use crate::order::{Gate, Order, OrderEvent};
use crate::support::{api, post, send};

/// Counts the placed orders.
struct Placed;

impl Projection for Placed {
    const NAME: &'static str = "placed";
    type Events = Order;
    type Connection = u64;

    async fn project(
        &self,
        recorded: &Recorded<OrderEvent>,
        count: &mut u64,
    ) -> Result<(), ProjectionError> {
        if matches!(recorded.event, OrderEvent::Placed { .. }) {
            *count += 1;
        }
        Ok(())
    }

    async fn clear(&self, count: &mut u64) -> Result<(), ProjectionError> {
        *count = 0;
        Ok(())
    }
}

type Model = CountedReads<InMemoryReadModel<u64>>;

async fn count(
    State((app, model)): State<(App, Model)>,
    wait_for: WaitFor,
) -> Result<Json<u64>, Problem> {
    let wait_for = wait_for.within(Duration::from_millis(500));
    wait_for.on(&app.projection::<Placed>()).await?;
    Ok(Json(model.model.get()))
}

fn service() -> (App, Router) {
    service_on(Model::new(InMemoryReadModel::new(0)))
}

fn service_on(model: Model) -> (App, Router) {
    let gate = Gate::default();
    gate.open();
    let app = App::builder(InMemoryEventStore::with_partitions(2))
        .aggregate::<Order>(gate.into())
        .projection(Placed, model.clone())
        .build()
        .unwrap();
    let routes = Router::new().route("/count", get(count)).with_state((app.clone(), model));
    let positions = projection_positions(app.projection::<Placed>());
    let routes = routes.route("/positions", positions);
    let service = api(&app).merge(routes);
    (app, service)
}

#[tokio::test]
async fn a_query_waits_for_the_positions_of_its_client() {
    let (app, router) = service();
    let mut positions = Vec::new();
    for id in ["1", "2", "3", "4"] {
        let reply = post(&router, &format!("/orders/{id}/place"), r#"{"units":1}"#).await;
        positions.push(reply.header("composable-position").unwrap().to_owned());
    }
    let wait_for = positions.join(", ");
    let count = async |wait_for: &str| {
        let headers = [("composable-wait-for", wait_for)];
        send(&router, Method::GET, "/count", &headers, None).await
    };
    // The workers do not run yet.
    let reply = count(&wait_for).await;
    assert_eq!(reply.problem(503), "projection_behind");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(send(&router, Method::GET, "/count", &[], None).await.ok(200), 0);
    app.start();
    assert_eq!(count(&wait_for).await.ok(200), 4);
    assert_eq!(count("nonsense").await.problem(400), "invalid_header");
    assert_eq!(count("0:1,").await.problem(400), "invalid_header");
    app.projection::<Placed>().pause().await.unwrap();
    assert_eq!(count("0:1000").await.problem(503), "projection_not_running");
}

#[tokio::test]
async fn several_positions_are_one_wait() {
    let model = Model::new(InMemoryReadModel::new(0));
    let (app, router) = service_on(model.clone());
    let mut positions = Vec::new();
    for id in ["1", "2", "3", "4"] {
        let reply = post(&router, &format!("/orders/{id}/place"), r#"{"units":1}"#).await;
        positions.push(reply.header("composable-position").unwrap().to_owned());
    }
    app.start();
    let positions = positions.join(",");
    let headers = [("composable-wait-for", positions.as_str())];
    let count = async || send(&router, Method::GET, "/count", &headers, None).await.ok(200);
    assert_eq!(count().await, 4);
    // Without workers, only the request reads the checkpoints.
    app.shutdown(Duration::from_secs(10)).await;
    let before = model.reads();
    assert_eq!(count().await, 4);
    assert_eq!(model.reads() - before, 1);
}

#[tokio::test]
async fn a_client_is_told_when_a_projection_moves() {
    let (app, router) = service();
    app.start();
    let request = axum::extract::Request::get("/positions").body(axum::body::Body::empty());
    let response = router.clone().oneshot(request.unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut frames = response.into_body().into_data_stream();
    post(&router, "/orders/1/place", r#"{"units":1}"#).await.ok(200);
    let mut seen = String::new();
    let moved = async {
        while !seen.contains(":1\"") {
            let frame = frames.next().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&frame).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(10), moved).await.unwrap();
    assert!(seen.starts_with("event: positions\ndata: ["), "{seen}");
}

/// The limit of a probe holds, however many databases hang.
#[tokio::test(start_paused = true)]
async fn read_models_that_hang_leave_a_process_ready() {
    let apps = std::iter::repeat_with(|| {
        let model = Model::new(InMemoryReadModel::new(0));
        model.hang();
        App::builder(InMemoryEventStore::new()).projection(Placed, model).build().unwrap()
    });
    let apps: Vec<App> = apps.take(3).collect();
    let health = Health::new(apps.iter().map(|app| ("orders", app)));
    let start = tokio::time::Instant::now();
    let ready = crate::support::get(&health.router(), "/ready").await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(ready.status, 200);
    let warning = "orders: the read model of `placed` does not respond";
    assert_eq!(ready.json()["warnings"], serde_json::Value::from(vec![warning; 3]));
}
