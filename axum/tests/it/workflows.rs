//! Requests that wait for the workflows that they start.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use composable_rust_axum::{Path, Problem, RequestContext, Sent};
use composable_rust_core::{CorrelationId, Id, TargetExt as _};
use composable_rust_runtime::App;
use composable_rust_testing::InMemoryEventStore;
use futures_util::TryStreamExt as _;

use crate::order::{Gate, Order, OrderCommand, OrderEvent};
use crate::support::{post, post_with, with_user};

const KEY: (&str, &str) = ("idempotency-key", "\"k\"");

/// Places an order and responds once a policy has had it shipped.
async fn place(
    State(app): State<App>,
    Path(id): Path<Id<Order>>,
    ctx: RequestContext,
) -> Result<Sent, Problem> {
    let workflow = ctx.new_correlation_id();
    let place = OrderCommand::Place { units: 1, wrapping: None };
    let sent = ctx.correlated(workflow).send(&app, &id, place).await?;
    app.settled(workflow, Duration::from_millis(500)).await?;
    Ok(sent)
}

fn service() -> (App, Router) {
    let gate = Gate::default();
    gate.open();
    let app = App::builder(InMemoryEventStore::new())
        .aggregate::<Order>(gate.into())
        .on_with::<Order, Order, _>(
            "ship",
            |policy| policy.from_start = true,
            |recorded| match recorded.event {
                OrderEvent::Placed { .. } => {
                    Id::of_stream(&recorded.stream).map(|id| (id, OrderCommand::Ship))
                }
                OrderEvent::Shipped => None,
            },
        )
        .build()
        .unwrap();
    let router = Router::new().route("/{id}", axum::routing::post(place));
    (app.clone(), with_user(router.with_state(app)))
}

/// Returns the workflows of an order's events.
async fn workflows(app: &App, id: &str) -> Vec<CorrelationId> {
    let events: Vec<_> = app.handle(&Order::id(id)).history().try_collect().await.unwrap();
    events.iter().map(|event| event.metadata.as_ref().unwrap().correlation_id).collect()
}

#[tokio::test]
async fn a_response_shows_the_whole_workflow() {
    let (app, router) = service();
    app.start();
    for key in [None, Some(KEY)] {
        let id = key.map_or("1", |_| "2");
        let reply = post_with(&router, &format!("/{id}"), key.as_slice(), "").await;
        assert_eq!(reply.ok(200)["version"], 1, "the receipt is that of the command");
        let shipped = app.handle(&Order::id(id)).state(|order| order.shipped).await.unwrap();
        assert_eq!(shipped, 1);
    }
}

#[tokio::test]
async fn a_repeated_request_waits_for_the_workflow_of_the_first() {
    let (app, router) = service();
    // The workers do not run yet.
    let reply = post_with(&router, "/1", &[KEY], "").await;
    assert_eq!(reply.problem(504), "deadline_passed");
    assert!(!reply.text.contains("ship"), "the policy is named: {reply:?}");
    assert_eq!(post_with(&router, "/1", &[KEY], "").await.problem(504), "deadline_passed");
    app.start();
    assert_eq!(post_with(&router, "/1", &[KEY], "").await.ok(200)["version"], 1);
    assert_eq!(app.handle(&Order::id("1")).state(|order| order.shipped).await.unwrap(), 1);
    let first = workflows(&app, "1").await;
    assert_eq!((first.len(), first[0]), (2, first[1]));
    // Other users, and requests without a key, start workflows of their own.
    post_with(&router, "/2", &[KEY, ("x-user", "anna")], "").await.ok(200);
    post(&router, "/3", "").await.ok(200);
    let mut all = [first, workflows(&app, "2").await, workflows(&app, "3").await].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 3);
}
