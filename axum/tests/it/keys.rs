//! Idempotency keys and preconditions.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::Method;
use composable_rust_axum::{Path, Problem, RequestContext, Sent, aggregate};
use composable_rust_core::{Id, TargetExt as _};
use composable_rust_runtime::App;
use composable_rust_testing::eventually;

use crate::order::{Gate, Order, OrderCommand};
use crate::support::{api, app, app_with, post, post_with, send, with_user};

const KEY: (&str, &str) = ("idempotency-key", "\"k\"");

#[tokio::test]
async fn a_repeated_request_gets_the_same_response() {
    let router = api(&app());
    let first = post_with(&router, "/orders/1/place", &[KEY], r#"{"units":2}"#).await;
    post(&router, "/orders/1/ship", "").await.ok(200);
    let second = post_with(&router, "/orders/1/place", &[KEY], r#"{"units":2}"#).await;
    assert_eq!(first.ok(200), second.ok(200));
    assert_eq!(second.header("etag"), Some("\"1\""));
    let other = post_with(&router, "/orders/1/place", &[KEY], r#"{"units":3}"#).await;
    assert_eq!(other.problem(422), "key_reused");
    // A rejection is repeated too.
    let key = [("idempotency-key", "\"r\"")];
    assert_eq!(post_with(&router, "/orders/2/ship", &key, "").await.problem(404), "order.unknown");
    post(&router, "/orders/2/place", r#"{"units":2}"#).await.ok(200);
    assert_eq!(post_with(&router, "/orders/2/ship", &key, "").await.problem(404), "order.unknown");
}

#[tokio::test]
async fn a_key_is_required_where_it_is_documented() {
    let app = app();
    let orders = aggregate::<Order>(&app).public().all_commands().require_idempotency_key();
    let router = orders.router();
    let reply = post(&router, "/1/ship", "").await;
    assert_eq!(reply.problem(400), "missing_idempotency_key");
    assert_eq!(post_with(&router, "/1/ship", &[KEY], "").await.problem(404), "order.unknown");
}

#[tokio::test]
async fn a_key_that_is_no_string_is_refused() {
    let router = api(&app());
    let long = format!("\"{}\"", "k".repeat(256));
    let longer = format!("\"{}\"", "k".repeat(2_000));
    for key in ["k", "\"\"", "\"k", "'k'", "1", "\"k\", \"l\"", &long, &longer] {
        let reply = post_with(&router, "/orders/1/ship", &[("idempotency-key", key)], "").await;
        assert_eq!(reply.problem(400), "invalid_header", "{key}");
        assert_eq!(reply.json()["header"], "idempotency-key");
    }
    let twice = [KEY, KEY];
    let request = axum::extract::Request::builder().method(Method::POST).uri("/orders/1/ship");
    let request =
        twice.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn equal_keys_of_two_users_do_not_meet() {
    let router = api(&app());
    let place = async |user: Option<&str>, units: u32| {
        let mut headers = vec![KEY];
        headers.extend(user.map(|user| ("x-user", user)));
        let body = format!(r#"{{"units":{units}}}"#);
        post_with(&router, "/orders/1/place", &headers, &body).await
    };
    place(Some("anna"), 2).await.ok(200);
    // Neither `key_reused` nor the other's outcome.
    assert_eq!(place(Some("ben"), 3).await.problem(409), "order.already_placed");
    assert_eq!(place(None, 3).await.problem(409), "order.already_placed");
    assert_eq!(place(Some("anna"), 3).await.problem(422), "key_reused");
}

#[tokio::test]
async fn a_new_id_follows_from_user_and_key() {
    async fn create(State(app): State<App>, ctx: RequestContext) -> Result<Sent, Problem> {
        let id = ctx.new_id::<Order>();
        let place = OrderCommand::Place { units: 1, wrapping: None };
        Ok(ctx.send(&app, &id, place).await?.created("/orders"))
    }
    let app = app();
    let router =
        Router::new().route("/orders", axum::routing::post(create)).with_state(app.clone());
    let router = with_user(router);
    let create = async |headers: &[(&str, &str)]| {
        let reply = send(&router, Method::POST, "/orders", headers, None).await;
        reply.ok(201);
        reply.header("location").unwrap().to_owned()
    };
    let first = create(&[KEY, ("x-user", "anna")]).await;
    assert_eq!(create(&[KEY, ("x-user", "anna")]).await, first);
    assert_ne!(create(&[KEY, ("x-user", "ben")]).await, first);
    assert_ne!(create(&[KEY]).await, create(&[]).await);
    assert_ne!(create(&[]).await, create(&[]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_progress_is_a_conflict() {
    let gate = Arc::new(Gate::default());
    let app = app_with(Arc::clone(&gate));
    let router = api(&app);
    let first = tokio::spawn({
        let router = router.clone();
        async move { post_with(&router, "/orders/1/hold", &[KEY], "").await }
    });
    let limit = Duration::from_secs(10);
    eventually("the conflict", limit, async || {
        let reply = tokio::time::timeout(
            Duration::from_millis(200),
            post_with(&router, "/orders/1/hold", &[KEY], ""),
        );
        match reply.await {
            Ok(reply) if reply.status == 409 => {
                assert_eq!(reply.problem(409), "in_progress");
                assert_eq!(reply.header("retry-after"), Some("1"));
                true
            }
            _ => false,
        }
    })
    .await;
    gate.open();
    let first = first.await.unwrap();
    // The outcome of the first, as soon as the first has it.
    let second = post_with(&router, "/orders/1/hold", &[KEY], "").await;
    if first.status == 200 {
        assert_eq!(first.json(), second.ok(200));
    } else {
        assert_eq!(first.problem(409), "in_progress");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_504_and_the_outcome_comes_with_the_key() {
    async fn hold(
        State(app): State<App>,
        Path(id): Path<Id<Order>>,
        ctx: RequestContext,
    ) -> Result<Sent, Problem> {
        ctx.within(Duration::from_millis(50)).send(&app, &id, OrderCommand::Hold).await
    }
    let gate = Arc::new(Gate::default());
    let app = app_with(Arc::clone(&gate));
    let router = Router::new().route("/{id}", axum::routing::post(hold)).with_state(app.clone());
    let reply = post_with(&router, "/1", &[KEY], "").await;
    assert_eq!(reply.problem(504), "deadline_passed");
    // The command still waits for the gate.
    assert_eq!(post_with(&router, "/1", &[KEY], "").await.problem(409), "in_progress");
    gate.open();
    eventually("the outcome", Duration::from_secs(10), async || {
        post_with(&router, "/1", &[KEY], "").await.status == 200
    })
    .await;
    let version = app.handle(&Order::id("1")).state_with_version(|_, version| version.get()).await;
    assert_eq!(version.unwrap(), 1);
}

#[tokio::test]
async fn preconditions_are_versions() {
    let router = api(&app());
    let place = async |headers: &[(&str, &str)], units: u32| {
        let body = format!(r#"{{"units":{units}}}"#);
        post_with(&router, "/orders/1/place", headers, &body).await
    };
    let exists = [("if-match", "*")];
    let absent = [("if-none-match", "*")];
    assert_eq!(place(&exists, 2).await.problem(412), "precondition_failed");
    place(&absent, 2).await.ok(200);
    let reply = place(&absent, 2).await;
    assert_eq!(reply.problem(412), "precondition_failed");
    assert_eq!(reply.json()["actual_version"], 1);
    place(&exists, 2).await.ok(200);
    place(&[("if-match", "\"1\"")], 2).await.ok(200);
    assert_eq!(place(&[("if-match", "\"2\"")], 2).await.problem(412), "precondition_failed");
    assert_eq!(place(&[("if-match", "W/\"1\"")], 2).await.problem(412), "precondition_failed");
    assert_eq!(place(&[("if-match", "\"1\", \"2\"")], 2).await.problem(400), "invalid_header");
    assert_eq!(place(&[("if-none-match", "\"1\"")], 2).await.problem(400), "invalid_header");
}
