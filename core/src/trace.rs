//! The port to the tracer of a process: the W3C trace context of its spans.
//!
//! The runtime opens spans of the crate `tracing`, and stores the context of a span as
//! [`Metadata::traceparent`](crate::Metadata::traceparent) with the messages that it causes. A span
//! of a stored message continues the trace, in whichever process and however much later.
//!
//! Without an installed [`TraceContext`], spans have no context, and messages carry the context
//! that their sender was given.

use std::sync::OnceLock;

use tracing::Span;

/// A tracer that gives spans their W3C trace context.
pub trait TraceContext: Send + Sync + 'static {
    /// Returns the [`traceparent`](https://www.w3.org/TR/trace-context/#traceparent-header) of a
    /// span; `None` if the tracer does not record the span.
    fn traceparent(&self, span: &Span) -> Option<String>;

    /// Makes a new span, which has no context yet, the child of a context.
    fn continue_from(&self, span: &Span, traceparent: &str);

    /// Links a span to a context that it does not continue.
    fn link(&self, span: &Span, traceparent: &str);
}

static INSTALLED: OnceLock<Box<dyn TraceContext>> = OnceLock::new();

/// Installs the tracer of this process. Returns `false`, and changes nothing, if one is installed
/// already.
pub fn install(context: impl TraceContext) -> bool {
    INSTALLED.set(Box::new(context)).is_ok()
}

/// Returns the installed tracer, if it may record the span.
fn tracer_of(span: &Span) -> Option<&'static dyn TraceContext> {
    if span.is_disabled() { None } else { INSTALLED.get().map(AsRef::as_ref) }
}

/// Returns the W3C trace context of a span; `None` if no tracer records it.
pub fn traceparent_of(span: &Span) -> Option<String> {
    tracer_of(span)?.traceparent(span)
}

/// Makes a new span the child of a context, if there is one.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    if let (Some(traceparent), Some(tracer)) = (traceparent, tracer_of(span)) {
        tracer.continue_from(span, traceparent);
    }
}

/// Links a span to a context.
pub fn link(span: &Span, traceparent: &str) {
    if let Some(tracer) = tracer_of(span) {
        tracer.link(span, traceparent);
    }
}
