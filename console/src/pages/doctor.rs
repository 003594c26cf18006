//! The diagnosis of a store and of what works on it.

use maud::html;

use crate::context::Context;
use crate::failure::Failure;
use crate::page::Page;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let diagnosis = context.admin().doctor().await?;
    let body = html! {
        p {
            span class=[(diagnosis.faults() > 0).then_some("bad")] { (diagnosis.faults()) " faults" } ", "
            span class=[(diagnosis.warnings() > 0).then_some("warn")] { (diagnosis.warnings()) " warnings" }
        }
        div.scroll { table {
            thead { tr { th { "Severity" } th { "Check" } th { "Found" } th { "What to do" } } }
            tbody {
                @for of in &diagnosis.0 {
                    tr {
                        td { span class={ "tag " (of.severity.as_str()) } { (of.severity.as_str()) } }
                        td { (of.check) }
                        td { (of.found) }
                        td { (of.remedy) }
                    }
                }
            }
        } }
    };
    Ok(Page::new("Doctor", "doctor", body).still())
}
