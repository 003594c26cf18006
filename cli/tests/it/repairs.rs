//! The commands that change something.

use composable_rust_cli::Admin;

use crate::shop::Build;
use crate::support::{Fixture, run, run_for, settings};

async fn session(admin: &Admin, lines: &[&[&str]]) -> String {
    let mut shown = String::new();
    for args in lines {
        shown += &(run(admin, args).await + "\n");
    }
    shown
}

#[tokio::test]
async fn destructive_commands_need_yes_and_can_be_rehearsed() {
    let fixture = Fixture::new().await;
    let admin = fixture.decoding(Build::Mended).await;
    let (waiting, _) = run_for(&admin, &["queues", "show", "call/bank", "--json"]).await;
    let waiting: serde_json::Value = serde_json::from_str(&waiting).unwrap();
    let id = waiting[0]["message"]["id"].as_str().unwrap();
    let other = waiting[1]["message"]["id"].as_str().unwrap();
    let shown = session(
        &admin,
        &[
            &["queues", "park", id],
            &["queues", "park", id, "--dry-run"],
            &["queues", "park", id, "--yes", "--by", "carl", "--reason", "T-1"],
            &["queues", "park", id, "--yes"],
            &["queues", "discard", other, "--yes"],
            &["timers", "fire", "order-1", "expiry"],
            &["timers", "fire", "order-1", "expiry", "--dry-run"],
            &["timers", "fire", "order-1", "expiry", "--yes"],
            &["timers", "list", "--overdue"],
            &["timers", "cancel", "order-2", "expiry", "-y"],
            &["timers", "cancel", "order-2", "expiry", "-y"],
            &["dead", "redrive", "--yes"],
            &["dead", "redrive", "--all"],
            &["dead", "redrive", "--all", "--dry-run"],
            &["dead", "discard", "--error", "too heavy", "--dry-run"],
            &["dead", "discard", "--error", "too heavy", "--yes"],
            &["dead", "discard", "--error", "too heavy", "--yes"],
            &["dead", "redrive", "--error", "no weight", "--yes"],
            &["gateways", "resume", "bank"],
            &["gateways", "pause", "nobody"],
            &["gateways", "pause", "bank", "--by", "carl"],
            &["log", "pause", "--reason", "restore"],
            &["log", "status"],
            &["log", "resume"],
            &["projections", "rebuild", "sales", "--yes"],
            &["erase", "order-3"],
            &["erase", "order-3", "--dry-run"],
            &["erase", "order-3", "--yes", "--reason", "asked to be forgotten"],
            &["erase", "--find", "buyer-3@example.com"],
            &["streams", "events", "order-3"],
            &["audit"],
        ],
    )
    .await;
    settings().bind(|| insta::assert_snapshot!(shown));
}

#[tokio::test]
async fn commands_are_sent_as_json() {
    let fixture = Fixture::new().await;
    let admin = fixture.decoding(Build::Mended).await;
    let place = r#"{"cents": 18446744073709551615, "email": "x@example.com", "kilos": 1}"#;
    let shown = session(
        &admin,
        &[
            &["send", "order-9", "order.place", place],
            &["streams", "state", "order-9"],
            &["send", "order-9", "order.cancel"],
            &["send", "order-10", "order.cancel"],
            &["send", "order-9", "order.fly"],
            &["send", "order-9", "order.place", "{}"],
            &["send", "customer-9", "customer.rename"],
            &["send", "order-9", "order.cancel", "--json"],
        ],
    )
    .await;
    settings().bind(|| insta::assert_snapshot!(shown));
    let raw = fixture.raw().await;
    let (output, code) = run_for(&raw, &["send", "order-9", "order.cancel"]).await;
    assert_eq!(code, 5, "{output}");
}

#[tokio::test]
async fn an_event_is_overridden_after_it_decodes() {
    let fixture = Fixture::new().await;
    let admin = fixture.decoding(Build::Mended).await;
    let better = r#"{"cents": 1, "email": "y@example.com", "kilos": 2}"#;
    let shown = session(
        &admin,
        &[
            &["override", "order-1", "1", r#"{"cents": "one"}"#, "--yes"],
            &["override", "order-1", "9", "{}", "--yes"],
            &["override", "order-1", "1", better, "--dry-run"],
            &["override", "order-1", "1", better],
            &["override", "order-1", "1", better, "--yes"],
            &["streams", "state", "order-1"],
            &["erase", "order-1", "--yes"],
            &["override", "order-1", "1", better, "--yes"],
        ],
    )
    .await;
    settings().bind(|| insta::assert_snapshot!(shown));
}

/// Followed events come once, oldest first, in JSON lines.
#[tokio::test]
async fn a_page_after_the_end_has_the_events_since_then() {
    let fixture = Fixture::new().await;
    let admin = fixture.decoding(Build::Mended).await;
    let end = admin.end_of_log().await.unwrap();
    for id in ["21", "22"] {
        let place = r#"{"cents": 1, "email": "z@example.com", "kilos": 1}"#;
        let (_, code) =
            run_for(&admin, &["send", &format!("order-{id}"), "order.place", place]).await;
        assert_eq!(code, 0);
    }
    let query =
        composable_rust_admin::EventQuery { category: Some("order".into()), ..Default::default() };
    let (found, next) = admin.events_after(&end, &query).await.unwrap();
    let streams: Vec<_> = found.iter().map(|of| of.stream.to_string()).collect();
    assert_eq!(streams, ["order-21", "order-22"]);
    assert_eq!(admin.events_after(&next, &query).await.unwrap(), (Vec::new(), next));
}
