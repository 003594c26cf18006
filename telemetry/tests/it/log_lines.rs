//! Log lines as JSON.

use composable_rust_core::prelude::*;
use composable_rust_runtime::App;
use composable_rust_testing::InMemoryEventStore;

use crate::recording::RECORDING;
use crate::shop::{Bank, Order, OrderCommand, Payment};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::test]
async fn a_line_has_the_trace_the_stream_and_the_command() {
    let recording = &*RECORDING;
    let app = App::builder(InMemoryEventStore::new());
    let app = app.aggregate::<Order>(()).aggregate::<Payment>(()).gateway(Bank).build().unwrap();
    let request = format!("00-{TRACE}-b7ad6b7169203331-01");
    let order = app.handle(&Order::id("logged"));
    order.send(OrderCommand::Place).traceparent(request).await.unwrap();
    let lines = recording.lines("placing an order");
    let line = lines.iter().find(|line| line["trace_id"] == TRACE).expect("a line of the trace");
    assert_eq!(line["stream"], "order-logged");
    assert_eq!(line["command"], "order.place");
    assert_eq!((&line["level"], &line["sku"]), (&"INFO".into(), &"tea".into()));
    assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
    assert!(line.as_object().unwrap().keys().all(|key| !key.starts_with("otel.")), "{line}");
}

#[test]
fn a_line_without_a_trace_has_no_id() {
    let recording = &*RECORDING;
    tracing::warn!(n = 7, "alone");
    let line = recording.lines("alone").remove(0);
    assert_eq!((&line["n"], line.get("trace_id")), (&7.into(), None));
}

/// A value that writes a log line while it is formatted.
struct Talkative;

impl std::fmt::Debug for Talkative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        tracing::info!("formatting");
        f.write_str("done")
    }
}

#[test]
fn a_line_has_what_its_span_recorded_last() {
    let recording = &*RECORDING;
    let span = tracing::info_span!("work", ratio = 0.5, state = tracing::field::Empty);
    span.in_scope(|| {
        span.record("ratio", f64::NAN);
        span.record("state", "begun");
        span.record("state", tracing::field::debug(Talkative));
        tracing::info!("recorded twice");
    });
    let line = recording.lines("recorded twice").remove(0);
    assert_eq!((&line["ratio"], &line["state"]), (&serde_json::Value::Null, &"done".into()));
    assert_eq!(recording.lines("formatting")[0]["state"], "begun");
}
