//! Asking for every page, again and again.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use composable_rust_admin::{Admin, DeadLetterFilter};
use composable_rust_console::{Console, Payloads};
use composable_rust_core::Timestamp;
use tower::ServiceExt as _;

use crate::generator::{Generator, correlation, longest, order};

const TOKEN: &str = "the token of a measurement";
/// The number of requests for each page.
const REQUESTS: usize = 20;
/// The number of pages after the first one that are opened for a deep one.
const DEPTH: usize = 50;

/// Prints a table of the times of all pages.
pub(crate) async fn pages(name: &str, admin: &Admin, generator: &Generator) {
    let console = Console::new(admin.clone()).token("bench", TOKEN).payloads(Payloads::Shown);
    let router = console.allow_changes().router().unwrap();
    println!("| {name}: page | p50 ms | p99 ms | bytes |\n|---|---:|---:|---:|");
    for (label, path) in paths(admin, generator).await {
        let path = if label.contains("deep") { deep(&router, path).await } else { path };
        measure(&router, &label, &path).await;
    }
}

async fn paths(admin: &Admin, generator: &Generator) -> Vec<(String, String)> {
    let (workflow, at) = generator.middle();
    let (id, stream) = (correlation(workflow), order(workflow));
    let minutes = |moment: Timestamp| moment.to_string().replace(':', "%3A");
    let (since, until) = (minutes(at - Duration::from_secs(60)), minutes(at));
    let around = minutes(at);
    let groups = admin.dead_letter_groups(&DeadLetterFilter::default()).await.unwrap();
    let group = &groups.entries[0].key;
    let part = stream.as_str().strip_prefix("order-").unwrap();
    let longest = longest();
    let paths: Vec<(&str, String)> = vec![
        ("overview", "/".to_owned()),
        ("streams", "/streams".to_owned()),
        ("streams, deep", "/streams?prefix=order-".to_owned()),
        ("streams, from the middle", format!("/streams?prefix=order-&after={stream}")),
        ("streams, by beginning of an id", format!("/streams?prefix=order-{}", &part[..7])),
        ("streams, by part of an id", format!("/streams?prefix=order-&contains={}", &part[3..])),
        ("instance", format!("/streams/{stream}")),
        ("instance of 10,000 events", format!("/streams/{longest}")),
        ("its version 9,000", format!("/streams/{longest}?at=9000")),
        ("its history from 5,000", format!("/streams/{longest}?after=5000")),
        ("events", "/events".to_owned()),
        ("events, deep", "/events".to_owned()),
        ("events, by a common name", "/events?name=type_07.sent".to_owned()),
        ("events, by a name that is not there", "/events?name=type_07.lost".to_owned()),
        ("events, by type", "/events?category=type_07".to_owned()),
        ("events, by part of a recent id", "/events?stream=order-late19".to_owned()),
        ("events, by part of an old id", format!("/events?stream={part}")),
        ("events, by time", format!("/events?since={since}&until={until}")),
        ("events, by an old workflow", format!("/events?correlation={id}")),
        ("workflow, around its time", format!("/traces/{id}?around={around}")),
        ("workflow, a day around", format!("/traces/{id}?around={around}&hours=24")),
        ("workflow, anywhere", format!("/traces/{id}")),
        ("sagas", "/sagas?category=order".to_owned()),
        ("queues", "/queues".to_owned()),
        ("messages of a queue", "/queues/messages?kind=dispatch&target=stock".to_owned()),
        ("dead letters, 5,000", "/dead-letters".to_owned()),
        ("dead letters, by error", "/dead-letters?error=dead4999".to_owned()),
        ("dead letters, a group", format!("/dead-letters/list?group={group}")),
        ("dead letters, rehearsal", format!("/dead-letters/rehearsal?group={group}")),
        ("timers", "/timers".to_owned()),
        ("projections", "/projections".to_owned()),
        ("bus", "/bus".to_owned()),
        ("gateways", "/gateways".to_owned()),
        ("processes", "/processes".to_owned()),
        ("schema", "/schema".to_owned()),
        ("audit", "/audit".to_owned()),
        ("doctor", "/doctor".to_owned()),
    ];
    paths.into_iter().map(|(label, path)| (label.to_owned(), path)).collect()
}

/// Returns the path of the page that some clicks on *Next page* lead to.
async fn deep(router: &Router, mut path: String) -> String {
    for _ in 0..DEPTH {
        let text = get(router, &path).await;
        let Some((_, rest)) = text.split_once("rel=\"next\" href=\"") else { break };
        path = rest.split('"').next().unwrap().replace("&amp;", "&");
    }
    path
}

async fn measure(router: &Router, label: &str, path: &str) {
    let mut times = Vec::new();
    let mut bytes = 0;
    let began = Instant::now();
    while times.len() < REQUESTS && (times.len() < 3 || began.elapsed().as_secs() < 10) {
        let began = Instant::now();
        bytes = get(router, path).await.len();
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (half, last) = (times[times.len() / 2], times[times.len() - 1]);
    println!("| {label} | {:.1} | {:.1} | {bytes} |", ms(half), ms(last));
}

async fn get(router: &Router, path: &str) -> String {
    let request = Request::get(path).header("authorization", format!("Bearer {TOKEN}"));
    let request = request.body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(status.is_success(), "{path}: {status} {text}");
    text
}
