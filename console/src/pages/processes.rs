//! Processes, and the leases that they hold.

use maud::html;

use crate::context::Context;
use crate::failure::Failure;
use crate::page::Page;
use crate::parts::text::none;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let processes = context.admin().processes().await?;
    let workers = context.admin().workers().await?;
    let body = html! {
        @if processes.is_empty() { p.warn { "No process works on this log." } }
        @else {
            table {
                thead { tr { th { "Process" } th.number { "Leases" } th { "Workers" } } }
                tbody {
                    @for of in &processes {
                        tr {
                            td.mono { (of.process) }
                            td.number { (of.leases) }
                            td { (of.workers.join(", ")) }
                        }
                    }
                }
            }
        }
        h2 { "Workers and their leases" }
        @if workers.is_empty() { (none("There are none.")) }
        @else {
            div.scroll { table {
                thead { tr { th { "Worker" } th.number { "Processes" } th { "Partitions held" } th { "Partitions without a holder" } } }
                tbody {
                    @for of in &workers {
                        tr {
                            td.mono { (of.worker) }
                            td.number { (of.processes.len()) }
                            td { (list(&of.held)) }
                            td.bad { (list(&of.free)) }
                        }
                    }
                }
            } }
        }
    };
    Ok(Page::new("Processes and leases", "workers", body))
}

fn list(partitions: &[u16]) -> String {
    partitions.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
