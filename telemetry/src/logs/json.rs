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

    fn record(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        if !is_of_traces(field.name()) {
            self.set(field.name(), value());
        }
    }
}

impl Visit for SpanFields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.record(field, || value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record(field, || value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record(field, || value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.record(field, || value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record(field, || value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record(field, || format!("{value:?}").into());
    }
}

impl<S> Layer<S> for JsonLog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = SpanFields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        // A value may write a log line while it is formatted, which reads the fields.
        let mut recorded = SpanFields::default();
        values.record(&mut recorded);
        if let Some(fields) = span.extensions_mut().get_mut::<SpanFields>() {
            recorded.0.into_iter().for_each(|(name, value)| fields.set(name, value));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields(Map::new());
        let metadata = event.metadata();
        line.insert("timestamp", Timestamp::from(SystemTime::now()).to_string());
        line.insert("level", metadata.level().as_str());
        line.insert("target", metadata.target());
        event.record(&mut line);
        let current = context.event_span(event);
        for span in current.iter().flat_map(tracing_subscriber::registry::SpanRef::scope) {
            let extensions = span.extensions();
            let Some(SpanFields(fields)) = extensions.get() else { continue };
            for (name, value) in fields {
                // The innermost span, and the event before it, know best.
                line.0.entry(*name).or_insert_with(|| value.clone());
            }
        }
        if let Some(traced) = current.and_then(|span| self.lookup.context(&span.id())) {
            line.insert("trace_id", traced.trace_id().to_string());
            line.insert("span_id", traced.span_id().to_string());
        }
        let mut text = Value::Object(line.0).to_string();
        text.push('\n');
        // A log that cannot be written cannot say so.
        let _ = self.writer.make_writer_for(metadata).write_all(text.as_bytes());
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn insert(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field.name(), format!("{value:?}"));
    }
}
