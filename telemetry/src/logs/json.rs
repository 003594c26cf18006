//! Log lines as JSON objects.

use std::fmt;
use std::io::Write as _;
use std::time::SystemTime;

use composable_rust_core::Timestamp;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::logs::TraceLookup;
use crate::logs::fields::is_of_traces;

/// Writes each log line as one JSON object: `timestamp`, `level`, `target`, `message`, the fields
/// of the event, those of its spans, and the ids of its trace and span.
pub(crate) struct JsonLog {
    pub(crate) lookup: TraceLookup,
    pub(crate) writer: BoxMakeWriter,
}

/// The fields of a span that its log lines show, each name once.
#[derive(Default)]
struct SpanFields(Vec<(&'static str, Value)>);

impl SpanFields {
    fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }
}

impl<S> Layer<S> for JsonLog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = SpanFields::default();
        attributes.record(&mut Visitor(|name, value| fields.set(name, value)));
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        // A value may write a log line while it is formatted, which reads the fields.
        let mut recorded = Vec::new();
        values.record(&mut Visitor(|name, value| recorded.push((name, value))));
        if let Some(fields) = span.extensions_mut().get_mut::<SpanFields>() {
            for (name, value) in recorded {
                fields.set(name, value);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Map::new();
        let mut insert = |name: &str, value: Value| _ = line.insert(name.to_owned(), value);
        let metadata = event.metadata();
        insert("timestamp", Timestamp::from(SystemTime::now()).to_string().into());
        insert("level", metadata.level().as_str().into());
        insert("target", metadata.target().into());
        event.record(&mut Visitor(&mut insert));
        let current = context.event_span(event);
        for span in current.iter().flat_map(tracing_subscriber::registry::SpanRef::scope) {
            let extensions = span.extensions();
            let Some(SpanFields(fields)) = extensions.get() else { continue };
            for (name, value) in fields {
                // The innermost span, and the event before it, know best.
                line.entry(*name).or_insert_with(|| value.clone());
            }
        }
        if let Some(traced) = current.and_then(|span| self.lookup.context(&span.id())) {
            line.insert("trace_id".to_owned(), traced.trace_id().to_string().into());
            line.insert("span_id".to_owned(), traced.span_id().to_string().into());
        }
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        // A log that cannot be written cannot say so.
        let _ = self.writer.make_writer_for(metadata).write_all(text.as_bytes());
    }
}

/// Passes on the fields that are not there for traces only, as JSON.
struct Visitor<F>(F);

impl<F: FnMut(&'static str, Value)> Visitor<F> {
    fn pass(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        if !is_of_traces(field.name()) {
            self.0(field.name(), value());
        }
    }
}

impl<F: FnMut(&'static str, Value)> Visit for Visitor<F> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.pass(field, || value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.pass(field, || value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.pass(field, || value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.pass(field, || value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.pass(field, || value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.pass(field, || format!("{value:?}").into());
    }
}
