//! The list of operations that operators have made.

use composable_rust_admin::AuditCursor;
use maud::html;

use crate::context::Context;
use crate::failure::Failure;
use crate::page::Page;
use crate::parts::text::{none, pages, time};
use crate::url;

/// The number of entries on a page.
const SHOWN: usize = 50;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let cursor = context.parsed::<AuditCursor>("before")?;
    let is_first = cursor.is_none();
    let page = context.admin().audit(cursor, SHOWN).await?;
    let to = |before: &str| context.link(&format!("/audit{}", url::query(&[("before", before)])));
    let body = html! {
        @if page.entries.is_empty() { (none("No operator has changed anything.")) }
        @else {
            div.scroll { table {
                thead { tr { th { "Time" } th { "Operator" } th { "Operation" } th { "Of" } th { "Reason" } th { "Result" } } }
                tbody {
                    @for of in &page.entries {
                        tr {
                            td.short { (time(of.at)) }
                            td { (of.operator) }
                            td { (of.intent.operation) }
                            td.mono { (of.intent.target) }
                            td { (of.reason) }
                            td {
                                @match &of.result {
                                    Some(result) => (result),
                                    None => span.warn { "under way or interrupted" },
                                }
                            }
                        }
                    }
                }
            } }
        }
        (pages((!is_first).then(|| to("")), page.next.map(|next| to(&next.to_string()))))
    };
    Ok(Page::new("Audit", "audit", body))
}
