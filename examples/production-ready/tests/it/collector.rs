//! A collector of the spans that processes export.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message as _;

/// A span as it was exported.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) service: String,
    pub(crate) name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    attributes: BTreeMap<String, String>,
}

impl Span {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

/// An OTLP endpoint over HTTP, which ends with the test's process.
pub(crate) struct Collector {
    addr: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, spans) = (listener.local_addr().unwrap(), Arc::default());
        let collected = Arc::clone(&spans);
        thread::spawn(move || {
            for client in listener.incoming() {
                let spans = Arc::clone(&collected);
                // A killed process breaks off.
                thread::spawn(move || receive(&client?, &spans));
            }
        });
        Self { addr, spans }
    }

    /// The variables of a process that exports its spans here as soon as they end.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.addr)),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10000".to_owned()),
            ("OTEL_METRICS_EXPORTER", "none".to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()),
        ]
    }

    /// Returns the spans of a trace.
    pub(crate) fn spans(&self, trace: u128) -> Spans {
        let all = self.spans.lock().unwrap();
        Spans(all.iter().filter(|span| span.trace == trace.to_be_bytes()).cloned().collect())
    }
}

/// The spans of a trace.
pub(crate) struct Spans(pub(crate) Vec<Span>);

impl Spans {
    /// Returns the span that a span is a child of, if it was exported.
    pub(crate) fn parent(&self, of: &Span) -> Option<&Span> {
        self.0.iter().find(|span| span.id == of.parent)
    }

    /// Returns the spans whose parents were not exported, such as that of the request's client.
    pub(crate) fn roots(&self) -> Vec<&Span> {
        self.0.iter().filter(|span| self.parent(span).is_none()).collect()
    }

    /// Returns the tree, a line for each name with its service, in order of the names.
    ///
    /// Spans of one name below one parent share a line: whether a message is delivered again after
    /// a kill depends on the moment.
    pub(crate) fn tree(&self) -> String {
        let mut text = String::new();
        self.write_tree(&self.roots(), 0, &mut text);
        text
    }

    fn write_tree(&self, spans: &[&Span], depth: usize, text: &mut String) {
        let mut lines: BTreeMap<_, Vec<&Span>> = BTreeMap::new();
        for span in spans {
            let children = self.0.iter().filter(|child| child.parent == span.id);
            lines.entry((&span.name, &span.service)).or_default().extend(children);
        }
        for ((name, service), children) in lines {
            for part in [&*"  ".repeat(depth), name, " [", service, "]\n"] {
                text.push_str(part);
            }
            self.write_tree(&children, depth + 1, text);
        }
    }
}

/// Keeps the spans of a request, and answers it.
fn receive(mut client: &TcpStream, spans: &Mutex<Vec<Span>>) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.to_ascii_lowercase();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = ExportTraceServiceRequest::decode(&*body).map_err(io::Error::other)?;
    for resource in request.resource_spans {
        let of = resource.resource.map(|of| attributes(of.attributes)).unwrap_or_default();
        let service = of.get("service.name").cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let (service, attributes) = (service.clone(), attributes(span.attributes));
            let (trace, id, parent) = (span.trace_id, span.span_id, span.parent_span_id);
            let span = Span { service, name: span.name, trace, id, parent, attributes };
            spans.lock().unwrap().push(span);
        }
    }
    client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

fn attributes(of: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: AnyValue| match value.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    };
    of.into_iter().filter_map(|of| Some((of.key, text(of.value?)?))).collect()
}
