//! Every span of the runtime: its name, kind and attributes, by the conventions of OpenTelemetry.
//!
//! A span of a stored message continues from the trace context that is stored with it, so one trace
//! spans processes, restarts and the wait of timers. A span of many messages is linked to their
//! contexts. While nothing records spans, no field is computed.
//!
//! `stream`, `command` and `cause` are also there for the log lines inside of a span.

use std::fmt::Display;

use composable_rust_core::bus::{BusMessage, Delivery as _, SharedDelivery};
use composable_rust_core::event::StoredEvent;
use composable_rust_core::queue::{DueTimer, OutboxKind, OutboxRow};
use composable_rust_core::trace::{continue_from, link, traceparent_of};
use composable_rust_core::{Metadata, StreamId, Timestamp};
use serde::Deserialize;
use tracing::field::Empty;
use tracing::{Span, info_span};

use crate::instance::receive::InboundMessage;
use crate::worker::bus::envelope::commands_topic;
use crate::worker::queued_message::category_of;

/// Maximum links of a span, as in OpenTelemetry.
const MAX_LINKS: usize = 128;

/// The sending of a command by a program. It continues the given context, unless the program's
/// current span belongs to the same trace.
pub(crate) fn send(command: &str, stream: &StreamId, traceparent: Option<&str>) -> Span {
    let current = Span::current();
    let span = info_span!(
        "send",
        command,
        %stream,
        otel.name = %format_args!("send {command}"),
        otel.kind = "internal",
        otel.status_code = Empty,
        "error.type" = Empty,
        "messaging.message.id" = Empty,
        "messaging.message.conversation_id" = Empty,
    );
    let trace = |traceparent: &str| traceparent.get(3..35).map(str::to_owned);
    if let Some(given) = traceparent.filter(|_| !span.is_disabled()) {
        let known = traceparent_of(&current).as_deref().and_then(trace);
        if known.is_none() || known != trace(given) {
            continue_from(&span, Some(given));
        }
    }
    span
}

/// Records the ids of a sent command and of its workflow.
pub(crate) fn sent(span: &Span, metadata: &Metadata) {
    if !span.is_disabled() {
        let Metadata { causation_id, correlation_id, .. } = metadata;
        span.record("messaging.message.id", tracing::field::display(causation_id));
        span.record("messaging.message.conversation_id", tracing::field::display(correlation_id));
    }
}

/// The handling of a delivered message by an instance.
pub(crate) fn process(command: &str, message: &InboundMessage) -> Span {
    let InboundMessage { stream, id, metadata, .. } = message;
    info_span!(
        "process",
        command,
        %stream,
        cause = %metadata.causation_id,
        otel.name = %format_args!("process {command}"),
        otel.kind = "consumer",
        otel.status_code = Empty,
        "error.type" = Empty,
        "messaging.operation.name" = "process",
        "messaging.operation.type" = "process",
        "messaging.destination.name" = stream.category(),
        "messaging.message.id" = %id.0,
        "messaging.message.conversation_id" = %metadata.correlation_id,
    )
}

/// The decisions of a batch of commands, whose spans are given.
pub(crate) fn decide(stream: &StreamId, commands: &[&Span]) -> Span {
    let span = info_span!(
        parent: parent(commands),
        "decide",
        %stream,
        otel.name = %format_args!("decide {}", stream.category()),
        commands = commands.len(),
    );
    link_all(&span, commands);
    span
}

/// An append, from its queueing at the partition's writer to its outcome.
pub(crate) fn append(
    system: &'static str,
    stream: &StreamId,
    events: usize,
    commands: &[&Span],
) -> Span {
    let span = info_span!(
        parent: parent(commands),
        "append",
        %stream,
        otel.name = %format_args!("append {}", stream.category()),
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        "db.system.name" = system,
        "db.operation.name" = "append",
        "db.collection.name" = stream.category(),
        "db.operation.batch.size" = events,
    );
    link_all(&span, commands);
    span
}

/// The loading of an instance.
pub(crate) fn load(system: &'static str, stream: &StreamId) -> Span {
    info_span!(
        "load",
        %stream,
        otel.name = %format_args!("load {}", stream.category()),
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        "db.system.name" = system,
        "db.operation.name" = "load",
        "db.collection.name" = stream.category(),
    )
}

/// An attempt to execute a row of the outbox.
pub(crate) fn row(row: &OutboxRow, now: Timestamp) -> Span {
    let message = &row.message.row;
    let span = match row.queue.kind {
        OutboxKind::Send => published(&commands_topic(category_of(&message.recipient)), 1),
        OutboxKind::Call => executed("call", "client", row, now),
        _ => executed("dispatch", "internal", row, now),
    };
    continue_from_stored(&span, &message.metadata);
    span
}

fn executed(verb: &'static str, kind: &'static str, row: &OutboxRow, now: Timestamp) -> Span {
    let (queue, target) = (row.queue.kind.as_str(), &*row.queue.target);
    info_span!(
        "dispatch",
        queue = %format_args!("{queue}/{target}"),
        sender = %row.message.sender,
        message = %row.message.row.id,
        attempt = row.attempts + 1,
        waited_seconds = now.since(row.queued_at).as_secs_f64(),
        otel.name = %format_args!("{verb} {target}"),
        otel.kind = kind,
        otel.status_code = Empty,
        "error.type" = Empty,
    )
}

/// An attempt to fire a timer, with the time for which it has waited.
pub(crate) fn timer(timer: &DueTimer, now: Timestamp) -> Span {
    let span = info_span!(
        "timer",
        stream = %timer.stream,
        timer = timer.timer.id,
        attempt = timer.attempts + 1,
        waited_seconds = now.since(timer.armed_at).as_secs_f64(),
        late_seconds = now.since(timer.due).as_secs_f64(),
        otel.name = %format_args!("timer {}", timer.stream.category()),
        otel.kind = "internal",
        otel.status_code = Empty,
        "error.type" = Empty,
    );
    continue_from_stored(&span, &timer.metadata);
    span
}

/// The publication of a batch of events.
pub(crate) fn publish(messages: &[BusMessage]) -> Span {
    let topic = messages.first().map_or("", |message| &*message.topic);
    let span = published(topic, messages.len());
    if !span.is_disabled() {
        link_messages(&span, messages.iter());
    }
    span
}

/// The publication of messages to a topic. The bus speaks Kafka's protocol.
fn published(topic: &str, messages: usize) -> Span {
    info_span!(
        "publish",
        otel.name = %format_args!("send {topic}"),
        otel.kind = "producer",
        otel.status_code = Empty,
        "error.type" = Empty,
        "messaging.system" = "kafka",
        "messaging.operation.name" = "send",
        "messaging.operation.type" = "send",
        "messaging.destination.name" = topic,
        "messaging.batch.message_count" = messages,
    )
}

/// The queueing of a batch that a consumer has received.
pub(crate) fn poll(consumer: &str, batch: &[SharedDelivery]) -> Span {
    let topic = batch.first().map_or("", |delivery| &*delivery.message().topic);
    let span = info_span!(
        "poll",
        otel.name = %format_args!("poll {topic}"),
        otel.kind = "client",
        "messaging.system" = "kafka",
        "messaging.operation.name" = "poll",
        "messaging.operation.type" = "receive",
        "messaging.destination.name" = topic,
        "messaging.consumer.group.name" = consumer,
        "messaging.batch.message_count" = batch.len(),
    );
    if !span.is_disabled() {
        link_messages(&span, batch.iter().map(SharedDelivery::message));
    }
    span
}

/// The projection of a page of events.
pub(crate) fn project(projection: &'static str, events: &[StoredEvent]) -> Span {
    let span = info_span!(
        "project",
        projection,
        otel.name = %format_args!("project {projection}"),
        otel.kind = "consumer",
        otel.status_code = Empty,
        "error.type" = Empty,
        "messaging.operation.name" = "process",
        "messaging.operation.type" = "process",
        "messaging.batch.message_count" = events.len(),
    );
    if !span.is_disabled() {
        let stored = events.iter().filter_map(|event| stored(&event.metadata));
        stored.take(MAX_LINKS).for_each(|traceparent| link(&span, &traceparent));
    }
    span
}

/// Marks a span as failed.
pub(crate) fn failed(span: &Span, error: impl Display) {
    if !span.is_disabled() {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", tracing::field::display(error));
    }
}

/// Returns the trace context that a message carries which is made in a span: that of the span, or,
/// while nothing records it, the one that is stored already.
pub(crate) fn carried(span: &Span, stored: Option<String>) -> Option<String> {
    traceparent_of(span).or(stored)
}

/// Returns the span under which a batch of commands is handled: that of the first.
fn parent(commands: &[&Span]) -> Option<tracing::span::Id> {
    commands.first().and_then(|span| span.id())
}

/// Links the span of a batch to the spans of its other commands.
fn link_all(span: &Span, commands: &[&Span]) {
    if !span.is_disabled() {
        let others = commands.iter().skip(1).filter_map(|other| traceparent_of(other));
        others.take(MAX_LINKS).for_each(|traceparent| link(span, &traceparent));
    }
}

fn link_messages<'m>(span: &Span, messages: impl Iterator<Item = &'m BusMessage>) {
    let context = |message: &BusMessage| match message.header("traceparent") {
        Some(traceparent) => Some(traceparent.to_owned()),
        None => stored(message.header("ce_metadata")?),
    };
    messages.filter_map(context).take(MAX_LINKS).for_each(|traceparent| link(span, &traceparent));
}

fn continue_from_stored(span: &Span, metadata: &str) {
    if !span.is_disabled() {
        continue_from(span, stored(metadata).as_deref());
    }
}

/// Returns the trace context in stored metadata.
fn stored(metadata: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Trace {
        traceparent: Option<String>,
    }
    serde_json::from_str::<Trace>(metadata).ok()?.traceparent
}
