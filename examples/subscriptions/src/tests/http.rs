//! The HTTP API.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use composable_rust::testing::{FakeAnswer, FakeGateway};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::whole_app::Service;
use crate::cards::CardResponse;
use crate::http::router;

async fn send(
    router: &Router,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> (u16, HeaderMap, Value) {
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header("content-type", "application/json");
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let response = router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_subscription_lives() {
    let cards = FakeGateway::new().answers([FakeAnswer::done(CardResponse::Done)]);
    let service = Service::start(&cards).await;
    let router = router(service.world.app(), service.model.clone());
    let trial = json!({ "customer": "ann", "plan": "pro", "card": "visa" });
    let start = "/subscriptions/1/start_trial";
    let (status, _, missing) = send(&router, start, &[], Some(trial.clone())).await;
    assert_eq!((status, &missing["code"]), (400, &json!("missing_idempotency_key")));

    // A repeated request gets the first response, and another one with its key none.
    let key = [("idempotency-key", "\"a\"")];
    let first = send(&router, start, &key, Some(trial.clone())).await;
    assert_eq!((first.0, &first.2["version"]), (200, &json!(1)));
    assert_eq!(send(&router, start, &key, Some(trial.clone())).await.2, first.2);
    let other = json!({ "customer": "ann", "plan": "team", "card": "visa" });
    let (status, _, reused) = send(&router, start, &key, Some(other)).await;
    assert_eq!((status, &reused["code"]), (422, &json!("key_reused")));

    let key = [("idempotency-key", "\"b\"")];
    let (status, _, started) = send(&router, start, &key, Some(trial)).await;
    assert_eq!((status, &started["code"]), (409, &json!("subscription.already_started")));
    let (status, _, unknown) =
        send(&router, "/subscriptions/2/cancel", &key, Some(json!({ "win_back": true }))).await;
    assert_eq!((status, &unknown["code"]), (404, &json!("subscription.unknown")));
    let (status, _, internal) =
        send(&router, "/subscriptions/1/trial_ended", &key, Some(json!({}))).await;
    assert_eq!((status, &internal["code"]), (404, &json!("no_such_path")));

    // The report shows what was written.
    let key = [("idempotency-key", "\"c\"")];
    let (_, headers, _) = send(&router, "/subscriptions/1/activate", &key, Some(json!({}))).await;
    let position = headers["composable-position"].to_str().unwrap();
    let (_, _, report) = send(&router, "/report", &[("composable-wait-for", position)], None).await;
    assert_eq!(
        report["plans"][0],
        json!({ "plan": "pro", "subscriptions": 1, "mrr_cents": 2_900 })
    );
    let (_, _, state) = send(&router, "/subscriptions/1", &[], None).await;
    assert_eq!(state["status"], "active");
    let (_, _, history) = send(&router, "/subscriptions/1/history", &[], None).await;
    assert_eq!(history["events"][1]["type"], "subscription.activated");
    let (_, _, document) = send(&router, "/openapi.json", &[], None).await;
    assert!(document["paths"]["/subscriptions/{id}/change_plan"]["post"].is_object());

    let events = Request::builder().uri("/subscriptions/1/events").body(Body::empty()).unwrap();
    let events = router.clone().oneshot(events).await.unwrap();
    let first = events.into_body().into_data_stream().next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("subscription.trial_started"), "{first:?}");
    service.world.settle().await;
    cards.finish();
}
