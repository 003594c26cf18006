//! The W3C trace context of spans, by OpenTelemetry.

use composable_rust_core::trace::TraceContext;
use opentelemetry::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The tracer of a process whose spans OpenTelemetry records.
#[derive(Debug)]
pub(crate) struct OpenTelemetryContext;

impl TraceContext for OpenTelemetryContext {
    fn traceparent(&self, span: &Span) -> Option<String> {
        let context = span.context();
        let of_span = context.span();
        let of_span = of_span.span_context();
        of_span.is_valid().then(|| {
            let flags = (of_span.trace_flags() & TraceFlags::SAMPLED).to_u8();
            let mut text = String::with_capacity(LENGTH);
            text.push_str("00-");
            push_hex(&mut text, &of_span.trace_id().to_bytes());
            text.push('-');
            push_hex(&mut text, &of_span.span_id().to_bytes());
            text.push('-');
            push_hex(&mut text, &[flags]);
            text
        })
    }

    fn continue_from(&self, span: &Span, traceparent: &str) {
        if let Some(parent) = parse(traceparent) {
            // Fails only for a span that OpenTelemetry does not record.
            let _ = span.set_parent(Context::new().with_remote_span_context(parent));
        }
    }

    fn link(&self, span: &Span, traceparent: &str) {
        if let Some(linked) = parse(traceparent) {
            span.add_link(linked);
        }
    }
}

/// The length of a trace context of version 0.
const LENGTH: usize = 55;

/// Appends bytes as hexadecimal digits. Each command's trace context is written once, and
/// `core::fmt` takes several times as long.
fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
    }
}

/// Parses a trace context. Later versions of the format begin like version 0, and may be longer.
fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !is_hex(version, 2) || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    if !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::{parse, push_hex};

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn valid_contexts_are_read() {
        for (text, is_sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("cc-{TRACE}-{SPAN}-03-more"), true),
        ] {
            let context = parse(&text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(context.trace_id().to_string(), TRACE);
            assert_eq!(context.span_id().to_string(), SPAN);
            assert_eq!((context.is_sampled(), context.is_remote()), (is_sampled, true));
        }
    }

    #[test]
    fn bytes_are_written_as_two_digits() {
        let mut text = String::new();
        push_hex(&mut text, &[0x00, 0x0f, 0xa0, 0xff]);
        assert_eq!(text, "000fa0ff");
    }

    #[test]
    fn invalid_contexts_are_ignored() {
        let zeros = "0".repeat(32);
        for text in [
            String::new(),
            "nonsense".to_owned(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0g"),
        ] {
            assert!(parse(&text).is_none(), "{text}");
        }
    }
}
