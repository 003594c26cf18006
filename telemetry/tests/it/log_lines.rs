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
