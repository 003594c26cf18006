//! The telemetry that the tests of this process share: a process has only one.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use composable_rust_telemetry::{LogFormat, Telemetry, TelemetryGuard};
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData};
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

pub(crate) struct Recording {
    spans: InMemorySpanExporter,
    lines: Lines,
    pub(crate) guard: TelemetryGuard,
}

pub(crate) static RECORDING: LazyLock<Recording> = LazyLock::new(|| {
    let (spans, lines) = (InMemorySpanExporter::default(), Lines::default());
    let telemetry = Telemetry::new("shop").log_format(LogFormat::Json);
    let telemetry = telemetry.log_writer(lines.clone()).span_exporter(spans.clone());
    let guard = telemetry.init().expect("nothing else is set up");
    Recording { spans, lines, guard }
});

/// The log lines.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Lines {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Recording {
    /// Returns the log lines with this message.
    pub(crate) fn lines(&self, message: &str) -> Vec<Value> {
        let text = String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["message"] == message).collect()
    }

    /// Returns the spans of a trace that have ended.
    pub(crate) fn spans(&self, trace: TraceId) -> Vec<SpanData> {
        self.guard.flush();
        let spans = self.spans.get_finished_spans().unwrap().into_iter();
        spans.filter(|span| span.span_context.trace_id() == trace).collect()
    }

    /// Returns all spans of this name that have ended.
    pub(crate) fn spans_named(&self, name: &str) -> Vec<SpanData> {
        self.guard.flush();
        let spans = self.spans.get_finished_spans().unwrap().into_iter();
        spans.filter(|span| span.name == name).collect()
    }
}

/// Returns the tree of a trace, a span per line, with those that have the same parent in order of
/// their names.
pub(crate) fn tree(spans: &[SpanData]) -> String {
    let mut children: HashMap<SpanId, Vec<&SpanData>> = HashMap::new();
    for span in spans {
        let is_known = |id| spans.iter().any(|other| other.span_context.span_id() == id);
        let parent = Some(span.parent_span_id).filter(|id| is_known(*id));
        children.entry(parent.unwrap_or(SpanId::INVALID)).or_default().push(span);
    }
    for spans in children.values_mut() {
        spans.sort_by(|one, other| one.name.cmp(&other.name));
    }
    let mut text = String::new();
    add(&mut text, &children, SpanId::INVALID, 0);
    text
}

fn add(
    text: &mut String,
    children: &HashMap<SpanId, Vec<&SpanData>>,
    parent: SpanId,
    depth: usize,
) {
    for span in children.get(&parent).into_iter().flatten() {
        let kind = format!("{:?}", span.span_kind).to_lowercase();
        for part in [&*"  ".repeat(depth), &*span.name, " (", &*kind, ")\n"] {
            text.push_str(part);
        }
        add(text, children, span.span_context.span_id(), depth + 1);
    }
}
