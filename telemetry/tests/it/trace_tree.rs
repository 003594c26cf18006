//! One command's trace through two services, a restart, and a day.

use composable_rust_core::codec::Format;
use composable_rust_core::prelude::*;
use composable_rust_testing::{InMemoryEventBus, World};
use futures_util::TryStreamExt as _;
use opentelemetry::trace::TraceId;

use crate::recording::{RECORDING, tree};
use crate::shop::{Bank, DAY, Order, OrderCommand, Payment};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn world() -> World {
    let bus = InMemoryEventBus::new();
    let (orders, payments) = (bus.clone(), bus);
    let world = World::at("2026-03-01T12:00:00Z".parse().unwrap(), move |app| {
        app.aggregate::<Order>(())
            .remote::<Payment>()
            .event_bus(orders.clone())
            .publish::<Order>(Format::Json)
    });
    world.with_service(move |app| {
        app.aggregate::<Payment>(())
            .gateway(Bank)
            .serve::<Payment>()
            .remote::<Order>()
            .event_bus(payments.clone())
    })
}

#[tokio::test]
async fn a_trace_spans_services_a_restart_and_a_day() {
    let recording = &*RECORDING;
    let mut world = world();
    let order = Order::id("1");
    let request = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let sent = world.app().handle(&order).send(OrderCommand::Place).traceparent(request).await;
    sent.unwrap();
    world.settle().await;
    world.restart().await;
    world.pass(DAY).await;
    let app = world.app().handle(&order);
    assert!(app.state(|order| order.is_paid && order.is_reminded).await.unwrap());

    let spans = recording.spans(TraceId::from_hex(TRACE).unwrap());
    insta::assert_snapshot!(tree(&spans));
    let timer = spans.iter().find(|span| span.name == "timer order").expect("the timer");
    let waited = timer.attributes.iter().find(|of| of.key.as_str() == "waited_seconds");
    assert_eq!(waited.unwrap().value.to_string(), "86400");
    // The relay's batch belongs to no single trace.
    let published = recording.spans_named("send order-events");
    let linked = published.iter().flat_map(|span| span.links.iter());
    assert!(linked.into_iter().any(|link| link.span_context.trace_id().to_string() == TRACE));
}

/// A context that the current span continues is that span's.
#[tokio::test]
async fn a_command_continues_the_current_span() {
    let recording = &*RECORDING;
    let world = world();
    let span = tracing::info_span!("request");
    let context = composable_rust_core::trace::traceparent_of(&span).unwrap();
    let send = async {
        world.app().handle(&Order::id("2")).send(OrderCommand::Place).await.unwrap();
    };
    tracing::Instrument::instrument(send, span).await;
    let trace = TraceId::from_hex(&context[3..35]).unwrap();
    // The services still work on the trace: spans whose parents have not ended stand beside it.
    let tree = tree(&recording.spans(trace));
    assert!(tree.contains("request (internal)\n  send order.place (internal)\n"), "{tree}");
}

#[tokio::test]
async fn events_hold_the_context_of_their_command() {
    let recording = &*RECORDING;
    let world = world();
    let order = world.app().handle(&Order::id("3"));
    order.send(OrderCommand::Place).await.unwrap();
    let first = Box::pin(order.history()).try_next().await.unwrap().unwrap();
    let context = first.metadata.unwrap().traceparent.unwrap();
    let spans = recording.spans(TraceId::from_hex(&context[3..35]).unwrap());
    let sent = spans.iter().find(|span| span.name == "send order.place").unwrap();
    assert_eq!(sent.span_context.span_id().to_string(), context[36..52]);
}
