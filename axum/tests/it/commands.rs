//! Commands over HTTP.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, StatusCode};
use composable_rust_axum::{Action, Json, Problem, aggregate, authenticated};
use composable_rust_core::Version;
use futures_util::TryStreamExt as _;
use serde_json::json;
use tower::ServiceExt as _;

use crate::order::{Order, OrderCommand};
use crate::support::{api, app, get, post, post_with, send, with_user};
use composable_rust_core::TargetExt as _;

#[tokio::test]
async fn a_command_is_sent_by_its_name() {
    let app = app();
    let router = api(&app);
    let reply = post(&router, "/orders/1/place", r#"{"units":2}"#).await;
    let body = reply.ok(200);
    assert_eq!(body["version"], 1);
    assert_eq!(reply.header("etag"), Some("\"1\""));
    assert_eq!(reply.header("composable-position"), body["position"].as_str());
    // Nothing changes, so there is no position.
    let again = post(&router, "/orders/1/place", r#"{"units":2}"#).await;
    assert_eq!(again.ok(200), json!({ "id": "1", "version": 1, "position": null }));
    assert_eq!(again.header("composable-position"), None);
    // A command without fields needs neither body nor content type.
    let reply = send(&router, Method::POST, "/orders/1/ship", &[], None).await;
    assert_eq!(reply.ok(200)["version"], 2);
    assert_eq!(post(&router, "/orders/1/ship", "{}").await.problem(409), "order.already_shipped");
}

#[tokio::test]
async fn the_metadata_has_the_user_and_the_trace() {
    let app = app();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("x-user", "anna"), ("traceparent", trace)];
    post_with(&api(&app), "/orders/1/place", &headers, r#"{"units":2}"#).await.ok(200);
    let bad = [("traceparent", "nonsense")];
    post_with(&api(&app), "/orders/1/ship", &bad, "{}").await.ok(200);
    let handle = app.handle(&Order::id("1"));
    let events: Vec<_> = handle.history().try_collect().await.unwrap();
    let metadata = |i: usize| events[i].metadata.clone().unwrap();
    assert_eq!(metadata(0).user.as_deref(), Some("anna"));
    assert_eq!(metadata(0).traceparent.as_deref(), Some(trace));
    assert_eq!((metadata(1).user, metadata(1).traceparent), (None, None));
}

#[tokio::test]
async fn an_internal_command_has_no_route() {
    let app = app();
    assert_eq!(post(&api(&app), "/orders/1/timed_out", "{}").await.problem(404), "no_such_path");
    let some = aggregate::<Order>(&app).public().commands(["order.ship"]).router();
    assert_eq!(post(&some, "/1/place", "{}").await.status, 404);
    assert_eq!(get(&some, "/1").await.status, 404);
}

#[tokio::test]
#[should_panic(expected = "`order.timed_out` is internal")]
async fn an_internal_command_cannot_be_exposed() {
    let _ = aggregate::<Order>(&app()).public().commands(["order.timed_out"]);
}

#[tokio::test]
#[should_panic(expected = "`order` has no command `order.nothing`")]
async fn an_unknown_command_cannot_be_exposed() {
    let _ = aggregate::<Order>(&app()).public().commands(["order.nothing"]);
}

#[tokio::test]
async fn bodies_that_are_no_command_are_problems() {
    let router = api(&app());
    let place = async |body: &str| post(&router, "/orders/1/place", body).await;
    assert_eq!(place("{").await.problem(400), "invalid_json");
    assert_eq!(place(r#"{"units":"many"}"#).await.problem(422), "invalid_body");
    assert_eq!(place("[]").await.problem(422), "invalid_body");
    assert_eq!(place("null").await.problem(422), "invalid_body");
    let missing = place("").await;
    assert_eq!(missing.problem(422), "invalid_body");
    assert!(missing.json()["detail"].as_str().unwrap().contains("units"), "{missing:?}");
    let deep = "[".repeat(100_000);
    assert_eq!(place(&deep).await.problem(400), "invalid_json");
    let text = [("content-type", "text/plain")];
    let reply = post_with(&router, "/orders/1/place", &text, "{}").await;
    assert_eq!(reply.problem(415), "unsupported_media_type");
    for kind in ["application/json; charset=utf-8", "application/vnd.api+json"] {
        let headers = [("content-type", kind)];
        post_with(&router, "/orders/1/place", &headers, r#"{"units":1}"#).await.ok(200);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_a_problem() {
    async fn by_hand(Json(body): Json<serde_json::Value>) -> Json<serde_json::Value> {
        Json(body)
    }
    let router = api(&app()).route("/by-hand", axum::routing::post(by_hand));
    let small = router.clone().layer(DefaultBodyLimit::max(8));
    let large = format!("[{}]", " ".repeat(2 << 20));
    for path in ["/orders/1/place", "/by-hand"] {
        let reply = post(&small, path, r#"{"units":10}"#).await;
        assert_eq!(reply.problem(413), "body_too_large", "{path}");
        assert_eq!(post(&router, path, &large).await.problem(413), "body_too_large", "{path}");
    }
}

#[tokio::test]
async fn unknown_fields_are_refused_wherever_they_are() {
    let router = api(&app());
    let place = async |body: &str| post(&router, "/orders/1/place", body).await;
    let reply = place(r#"{"units":1,"unit":2}"#).await;
    assert_eq!(reply.problem(422), "invalid_body");
    assert_eq!(reply.json()["unknown_fields"], json!(["/unit"]));
    let nested = r#"{
        "units": 1, "a/b": 1,
        "wrapping": { "gift": { "card": "x", "layers": [{ "color": "red" }, { "color": "red", "colour": 1 }] } }
    }"#;
    let unknown = place(nested).await.json()["unknown_fields"].clone();
    assert_eq!(unknown, json!(["/a~1b", "/wrapping/gift/layers/1/colour"]));
    let reply = post(&router, "/orders/1/ship", r#"{"now":true}"#).await;
    assert_eq!(reply.json()["unknown_fields"], json!(["/now"]));
    place(r#"{"units":1,"wrapping":{"gift":{"card":"x","layers":[{"color":"red"}]}}}"#)
        .await
        .ok(200);
    place(r#"{"units":1,"wrapping":"plain"}"#).await.ok(200);
    place(r#"{"units":1,"wrapping":null}"#).await.ok(200);
}

#[tokio::test]
async fn ids_are_percent_decoded_and_checked() {
    let app = app();
    let router = api(&app);
    post(&router, "/orders/a%2Fb%20%C3%A4/place", r#"{"units":1}"#).await.ok(200);
    let units = app.handle(&Order::id("a/b ä")).state(|order| order.units).await.unwrap();
    assert_eq!(units, 1);
    assert_eq!(get(&router, "/orders/a%2Fb%20%C3%A4").await.ok(200)["units"], 1);
    assert_eq!(get(&router, "/orders/%FF").await.problem(400), "invalid_path");
    assert_eq!(get(&router, "/orders/a%00").await.problem(400), "invalid_id");
    let long = format!("/orders/{}", "a".repeat(2_000));
    assert_eq!(get(&router, &long).await.problem(400), "invalid_id");
    // A path around it may have parameters of its own.
    let orders = aggregate::<Order>(&app).public().state();
    let nested = Router::new().nest("/shops/{shop}/orders", orders.router());
    assert_eq!(get(&nested, "/shops/7/orders/a%2Fb%20%C3%A4").await.ok(200)["units"], 1);
}

#[tokio::test]
async fn requests_are_authorized() {
    let app = app();
    let orders = aggregate::<Order>(&app)
        .authorize(|access| async move {
            match (&access.action, access.user()) {
                (Action::State, _) | (Action::Command("order.place"), Some(_)) => Ok(()),
                _ => Err(Problem::new(StatusCode::FORBIDDEN, "not_yours")),
            }
        })
        .all_commands()
        .state()
        .history()
        .events();
    let router = with_user(orders.router());
    let anna = [("x-user", "anna")];
    assert_eq!(post(&router, "/1/place", r#"{"units":1}"#).await.problem(403), "not_yours");
    post_with(&router, "/1/place", &anna, r#"{"units":1}"#).await.ok(200);
    assert_eq!(post_with(&router, "/1/ship", &anna, "{}").await.problem(403), "not_yours");
    assert_eq!(get(&router, "/1/history").await.problem(403), "not_yours");
    assert_eq!(get(&router, "/1/events").await.problem(403), "not_yours");
    assert_eq!(get(&router, "/1").await.ok(200)["units"], 1);
    let version = app.handle(&Order::id("1")).state_with_version(|_, version| version).await;
    assert_eq!(version.unwrap(), Version::new(1));
    let all = aggregate::<Order>(&app).authorize(authenticated("Bearer")).state().router();
    let reply = get(&all, "/1").await;
    assert_eq!(reply.problem(401), "unauthenticated");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
}

#[tokio::test]
async fn nothing_is_read_before_a_request_is_authorized() {
    let orders = aggregate::<Order>(&app())
        .authorize(authenticated("Bearer"))
        .all_commands()
        .require_idempotency_key()
        .state()
        .history()
        .events();
    let router = with_user(orders.router()).layer(DefaultBodyLimit::max(8));
    for body in ["", "{", r#"{"unit":1}"#, r#"{"units":1,"wrapping":null}"#] {
        let reply = post(&router, "/1/place", body).await;
        assert_eq!(reply.problem(401), "unauthenticated", "{body}");
    }
    let text = [("content-type", "text/plain"), ("idempotency-key", "k")];
    let reply = post_with(&router, "/1/place", &text, "{}").await;
    assert_eq!(reply.problem(401), "unauthenticated");
    for path in ["/1?at=1", "/1/history?before=1", "/1/events?before=1"] {
        assert_eq!(get(&router, path).await.problem(401), "unauthenticated", "{path}");
    }
    // The body is not even received.
    let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
    let request = Request::post("/1/place").body(body).unwrap();
    let response = tokio::time::timeout(Duration::from_secs(10), router.oneshot(request));
    assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_content_of_a_command_is_checked() {
    let app = app();
    let orders = aggregate::<Order>(&app)
        .authorize(authenticated("Bearer"))
        .all_commands()
        .check_commands(|access, command| async move {
            match command {
                OrderCommand::Place { units: 10.., .. } => {
                    let user = access.user().map(|user| user.0.clone());
                    let problem = Problem::new(StatusCode::FORBIDDEN, "over_limit");
                    Err(problem.with_member("user", user))
                }
                _ => Ok(()),
            }
        });
    let router = with_user(orders.router());
    let anna = [("x-user", "anna")];
    let reply = post_with(&router, "/1/place", &anna, r#"{"units":10}"#).await;
    assert_eq!(
        (reply.problem(403).as_str(), &reply.json()["user"]),
        ("over_limit", &json!("anna"))
    );
    let reply = post_with(&router, "/1/place", &anna, r#"{"unit":10}"#).await;
    assert_eq!(reply.problem(422), "invalid_body");
    post_with(&router, "/1/place", &anna, r#"{"units":9}"#).await.ok(200);
    // Without a user, the check of the content is not reached.
    assert_eq!(post(&router, "/1/place", r#"{"units":10}"#).await.problem(401), "unauthenticated");
}
