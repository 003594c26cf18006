//! Live updates.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use composable_rust_core::TargetExt as _;
use futures_util::StreamExt as _;
use tower::ServiceExt as _;

use crate::app::{Order, OrderCommand};
use axum::Router;
use axum::response::Response;

use crate::world::{TOKEN, get, open};

/// Asks for live updates of the page of streams.
async fn live(router: &Router, token: &str) -> Response {
    let request = Request::get("/ops/streams")
        .header("accept", "text/event-stream")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap();
    router.clone().oneshot(request).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn live_pages_are_bounded_also_when_clients_read_nothing() {
    let (router, _) = open().await;
    let mut statuses = std::collections::BTreeMap::new();
    let mut held = Vec::new();
    for _ in 0..10_000 {
        let response = live(&router, TOKEN).await;
        *statuses.entry(response.status().as_u16()).or_insert(0) += 1;
        held.push(response);
    }
    assert_eq!(statuses, [(200, 64), (503, 9_936)].into());
    assert_eq!(live(&router, "a wrong token, long enough").await.status(), 401);
    // Pages without live updates go on.
    assert_eq!(get("/ops/streams").token(TOKEN).of(&router).await.status, 200);
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert_eq!(live(&router, TOKEN).await.status(), 503);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(live(&router, TOKEN).await.status(), 200, "they have lived, though nobody read");
    held.clear();
    tokio::task::yield_now().await;
    for _ in 0..64 {
        held.push(live(&router, TOKEN).await);
    }
    assert!(held.iter().all(|response| response.status() == 200), "closed connections count not");
}

#[tokio::test(start_paused = true)]
async fn a_page_is_sent_again_when_it_changes() {
    let (router, admin) = open().await;
    let page = get("/ops/streams").token(TOKEN).of(&router).await.text;
    let (_, rest) = page.split_once("data-shown=\"").unwrap();
    let shown = rest.split('"').next().unwrap();
    let request = Request::get(format!("/ops/streams?shown={shown}"))
        .header("accept", "text/event-stream")
        .header("authorization", format!("Bearer {TOKEN}"))
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut events = response.into_body().into_data_stream();
    // Nothing but a comment, which keeps the connection, while nothing changes.
    let first = tokio::time::timeout(Duration::from_secs(40), events.next()).await;
    assert_eq!(first.unwrap().unwrap().unwrap(), ":\n\n");
    let place = OrderCommand::Place { note: String::new() };
    admin.app().handle(&Order::id("fresh")).send(place).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(5), events.next()).await;
    let event = String::from_utf8(event.unwrap().unwrap().unwrap().to_vec()).unwrap();
    assert!(event.contains("event: body") && event.contains("order-fresh"), "{event}");
    // The browser authenticates again after five minutes.
    let ended = tokio::time::timeout(Duration::from_secs(400), events.count()).await;
    assert!(ended.unwrap() > 10);
}
