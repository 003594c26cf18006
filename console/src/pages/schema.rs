//! Names and versions of the log's events, against this build.

use composable_rust_admin::SchemaEntry;
use maud::{Markup, html};

use crate::context::Context;
use crate::failure::Failure;
use crate::page::Page;
use crate::parts::text::{none, stream, time};

/// The number of events that one request reads.
const READ: usize = 20_000;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    // One request at a time continues the scan; others show it as it is then.
    let mut scan = context.shared.schema.lock().await;
    context.admin().scan_schema(&mut scan, READ).await?;
    let (done, of) = (scan.done(), scan.of());
    let entries: Vec<_> = scan.entries().collect();
    let unreadable = entries.iter().filter(|of| of.problem.is_some()).count();
    let body = html! {
        p {
            (done) " of " (of) " events examined. "
            @if done < of { "The page continues while it is live." }
        }
        @if unreadable > 0 { p.bad { (unreadable) " kinds of events cannot be read by this build." } }
        @if entries.is_empty() { (none("The log is empty.")) }
        @else {
            div.scroll { table {
                thead { tr { th { "Type" } th { "Event" } th.number { "Version" } th.number { "Events" } th { "Last" } th { "Example" } th { "This build" } } }
                tbody { @for entry in entries { (row(&context, entry)) } }
            } }
        }
    };
    Ok(Page::new("Schema", "verify", body))
}

fn row(context: &Context, of: &SchemaEntry) -> Markup {
    html! {
        tr {
            td { (of.category) }
            td { (of.name) }
            td.number { (of.version) }
            td.number { (of.count) }
            td.short { (time(of.last_at)) }
            td { (stream(context, &of.example)) }
            td {
                @match (&of.problem, of.is_registered) {
                    (Some(problem), _) => span.failure { (problem) },
                    (None, true) => span.good { "reads it" },
                    (None, false) => span.faint { "does not register the type" },
                }
            }
        }
    }
}
