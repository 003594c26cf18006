//! State and history.

use axum::Router;
use axum::http::Method;
use composable_rust_axum::aggregate;
use serde_json::json;

use crate::order::Order;
use crate::support::{api, app, get, post, send};

#[tokio::test]
async fn the_state_is_read_now_or_at_a_version() {
    let router = api(&app());
    assert_eq!(get(&router, "/orders/1").await.problem(404), "not_found");
    assert_eq!(get(&router, "/orders/1?version=0").await.problem(404), "not_found");
    post(&router, "/orders/1/place", r#"{"units":2}"#).await.ok(200);
    post(&router, "/orders/1/ship", "").await.ok(200);
    let now = get(&router, "/orders/1").await;
    assert_eq!(now.ok(200), json!({ "units": 2, "shipped": 2 }));
    assert_eq!(now.header("etag"), Some("\"2\""));
    assert_eq!(now.header("content-type"), Some("application/json"));
    let then = get(&router, "/orders/1?version=1").await;
    assert_eq!(then.ok(200), json!({ "units": 2, "shipped": 0 }));
    assert_eq!(then.header("etag"), Some("\"1\""));
    let reply = get(&router, "/orders/1?version=3").await;
    assert_eq!(reply.problem(404), "no_such_version");
    for query in ["version=x", "version=-1", "at=1", "version=1&version=2"] {
        let reply = get(&router, &format!("/orders/1?{query}")).await;
        assert_eq!(reply.problem(400), "invalid_query", "{query}");
    }
}

#[tokio::test]
async fn a_current_copy_is_not_sent_again() {
    let router = api(&app());
    post(&router, "/orders/1/place", r#"{"units":2}"#).await.ok(200);
    let read = async |tag: &str| {
        let headers = [("if-none-match", tag)];
        send(&router, Method::GET, "/orders/1", &headers, None).await
    };
    for tag in ["\"1\"", "W/\"1\"", "\"7\", \"1\"", "*"] {
        let reply = read(tag).await;
        assert_eq!((reply.status, reply.text.as_str()), (304, ""), "{tag}");
        assert_eq!(reply.header("etag"), Some("\"1\""));
    }
    for tag in ["\"2\"", "1", "nonsense"] {
        assert_eq!(read(tag).await.status, 200, "{tag}");
    }
}

#[tokio::test]
async fn a_view_shows_what_it_wants() {
    let app = app();
    let orders =
        aggregate::<Order>(&app).public().all_commands().state_with(|id, order, version| {
            (order.units != 13).then(|| json!({ "id": id, "left": order.units, "at": version }))
        });
    let router = Router::new().nest("/orders", orders.router());
    post(&router, "/orders/1/place", r#"{"units":2}"#).await.ok(200);
    post(&router, "/orders/2/place", r#"{"units":13}"#).await.ok(200);
    let shown = json!({ "id": "1", "left": 2, "at": 1 });
    assert_eq!(get(&router, "/orders/1").await.ok(200), shown);
    assert_eq!(get(&router, "/orders/2").await.problem(404), "not_found");
}

#[tokio::test]
async fn the_history_has_pages() {
    let router = api(&app());
    assert_eq!(get(&router, "/orders/1/history").await.problem(404), "not_found");
    post(&router, "/orders/1/place", r#"{"units":2}"#).await.ok(200);
    post(&router, "/orders/1/ship", "").await.ok(200);
    let mut first = get(&router, "/orders/1/history?limit=1").await.ok(200);
    assert_eq!(first["next"], 1);
    let event = &mut first["events"][0];
    assert!(event["recorded_at"].take().is_string() && event["position"].take().is_string());
    let placed = json!({
        "version": 1, "type": "order.placed", "content": { "units": 2 },
        "recorded_at": null, "position": null,
    });
    assert_eq!(*event, placed);
    let second = get(&router, "/orders/1/history?after=1&limit=1").await.ok(200);
    assert_eq!((&second["events"][0]["version"], &second["next"]), (&json!(2), &json!(null)));
    let all = get(&router, "/orders/1/history").await.ok(200);
    assert_eq!(all["events"].as_array().unwrap().len(), 2);
    let end = get(&router, "/orders/1/history?after=2").await.ok(200);
    assert_eq!(end, json!({ "events": [], "next": null }));
    for query in ["limit=x", "after=x", "before=1"] {
        let reply = get(&router, &format!("/orders/1/history?{query}")).await;
        assert_eq!(reply.problem(400), "invalid_query", "{query}");
    }
}

#[tokio::test]
async fn an_erased_event_has_no_content() {
    use composable_rust_core::TargetExt as _;
    let app = app();
    let router = api(&app);
    post(&router, "/orders/1/place", r#"{"units":2}"#).await.ok(200);
    app.handle(&Order::id("1")).erase().await.unwrap();
    let history = get(&router, "/orders/1/history").await.ok(200);
    let event = &history["events"][0];
    assert_eq!((&event["type"], &event["content"]), (&json!(null), &json!(null)));
}
