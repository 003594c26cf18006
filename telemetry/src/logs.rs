//! Log lines with the trace and span that they belong to.

mod fields;
mod json;
mod text;

use std::sync::{Arc, OnceLock};

use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use tracing::dispatcher::{Dispatch, WeakDispatch};
use tracing::span::Id;
use tracing_opentelemetry::get_otel_context;

pub(crate) use self::fields::LogFields;
pub(crate) use self::json::JsonLog;
pub(crate) use self::text::TextLog;

/// The subscriber that knows the contexts of spans. It is known once the logs belong to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct TraceLookup(Arc<OnceLock<WeakDispatch>>);

impl TraceLookup {
    pub(crate) fn set(&self, dispatch: &Dispatch) {
        let _ = self.0.set(dispatch.downgrade());
    }

    /// Returns the context of a span, if it is traced.
    fn context(&self, span: &Id) -> Option<SpanContext> {
        let dispatch = self.0.get()?.upgrade()?;
        let context = get_otel_context(span, &dispatch)?;
        let context = context.span().span_context().clone();
        context.is_valid().then_some(context)
    }
}
