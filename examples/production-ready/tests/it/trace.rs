//! One HTTP request's trace through three processes, one of which is killed while it works.

use std::collections::BTreeMap;

use composable_rust_testing::TestDatabase;
use serde_json::Value;

use crate::collector::{Collector, Span, Spans};
use crate::services::Services;
use crate::support::{request_with, until};

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
/// The span of the client, which exports nothing here.
const CLIENT: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_tree_through_three_processes_and_a_kill() {
    let collector = Collector::start();
    let mut services = Services::new(&collector.variables()).await;
    let [orders, payments, shipping] = &mut services.processes;
    orders.start(&[]);
    shipping.start(&[]);
    // The provider takes longer than this process lives.
    payments.start(&[("SHOP_PROVIDER_MILLIS", "4000")]);

    let headers = format!("Idempotency-Key: \"1\"\r\nTraceparent: 00-{TRACE:032x}-{CLIENT}-01\r\n");
    let body = r#"{"customer":"ann","sku":"lamp","units":1,"cents":100}"#;
    let placed = request_with(orders.addr, "POST /orders/1/place", &headers, body).unwrap();
    assert!(placed.contains("\"version\":1"), "{placed}");
    // A killed process exports no more, and the provider has not answered yet.
    until("the payment's process has exported that it calls the provider", || {
        let spans = collector.spans(TRACE).0;
        let mut charge =
            ["dispatch payment", "process payment.charge", "send fulfilment-commands"].iter();
        charge.all(|name| spans.iter().any(|span| span.name == **name))
    });
    payments.kill();
    payments.start(&[]);
    until("the order is fulfilled", || orders.get("/orders/1")["status"] == "fulfilled");
    let is_over = |saga: &Value| saga.to_string().contains("Completed");
    until("the saga has ended", || is_over(&orders.get("/fulfilments/1")));

    // What the processes have not exported yet, they export when they stop.
    for process in [&mut *payments, &mut *shipping] {
        process.stop();
    }
    let [_, of_payments, of_shipping] = services.databases.each_ref().map(TestDatabase::url);
    let trace = ["trace", "order-1", "--also", &of_payments, "--also", &of_shipping];
    let shown = orders.operate(&trace);
    let workflow = orders.json(&trace);
    orders.stop();

    let spans = collector.spans(TRACE);
    println!("{}", spans.tree());
    let roots: Vec<_> = spans.roots().iter().map(|root| &*root.name).collect();
    assert_eq!(roots, ["send order.place"]);
    insta::assert_snapshot!("spans", spans.tree());
    insta::assert_snapshot!("workflow", without_times(&shown));
    assert_eq!(steps_of_spans(&spans, &workflow), steps_of_workflow(&workflow));
}

/// A message that an instance handled, with the nearest earlier one that led to it.
#[derive(Debug, PartialEq, Eq)]
struct TraceStep {
    stream: String,
    cause: Option<String>,
}

/// Returns the steps of the tree that `trace` prints, by the ids of their messages.
fn steps_of_workflow(workflow: &Value) -> BTreeMap<String, TraceStep> {
    let mut steps = BTreeMap::new();
    let roots = workflow["roots"].as_array().unwrap();
    let mut rest: Vec<(&Value, Option<String>)> = roots.iter().map(|root| (root, None)).collect();
    while let Some((node, cause)) = rest.pop() {
        let text = |name: &str| node[name].as_str().unwrap().to_owned();
        let id = text("message_id");
        let children = node["children"].as_array().unwrap();
        rest.extend(children.iter().map(|child| (child, Some(id.clone()))));
        steps.insert(id, TraceStep { stream: text("stream"), cause });
    }
    steps
}

/// Returns the steps of the spans. Messages that left no events are in no workflow, so their causes
/// count instead.
fn steps_of_spans(spans: &Spans, workflow: &Value) -> BTreeMap<String, TraceStep> {
    let known = steps_of_workflow(workflow);
    let message = |span: &Span| {
        let id = span.attribute("messaging.message.id")?;
        known.contains_key(id).then(|| id.to_owned())
    };
    let mut steps = BTreeMap::new();
    for span in &spans.0 {
        let Some(id) = message(span) else { continue };
        let mut above = std::iter::successors(spans.parent(span), |span| spans.parent(span));
        let cause = above.find_map(message);
        let step = TraceStep { stream: span.attribute("stream").unwrap().to_owned(), cause };
        if let Some(other) = steps.get(&id) {
            assert_eq!(other, &step, "all deliveries of {id} have one cause");
        }
        steps.insert(id, step);
    }
    steps
}

/// Returns the printed tree without its id and its times.
fn without_times(shown: &str) -> String {
    let lines = shown.lines().skip(1).map(|line| {
        let branch = line.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        let (branch, rest) = line.split_at(branch);
        let text = rest.split_once("  ").map_or(rest, |(_, text)| text);
        format!("{branch}{text}\n")
    });
    lines.collect()
}
