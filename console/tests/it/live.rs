//! Live updates.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use composable_rust_core::TargetExt as _;
use futures_util::StreamExt as _;
use tower::ServiceExt as _;

use crate::app::{Order, OrderCommand};
use crate::world::{TOKEN, get, open};

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
