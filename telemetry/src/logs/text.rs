//! Log lines as text.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::logs::TraceLookup;

/// Lines as `tracing_subscriber` writes them, with the trace's id at their ends.
#[derive(Debug)]
pub(crate) struct TextLog(pub(crate) TraceLookup);

impl<S, N> FormatEvent<S, N> for TextLog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        Format::default().with_ansi(false).format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(line.trim_end())?;
        let span = context.lookup_current().and_then(|span| self.0.context(&span.id()));
        if let Some(span) = span {
            write!(writer, " trace_id={}", span.trace_id())?;
        }
        writeln!(writer)
    }
}
