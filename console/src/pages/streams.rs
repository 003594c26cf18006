//! Streams, in the order of their names.

use composable_rust_admin::StreamQuery;
use maud::{Markup, html};

use crate::context::Context;
use crate::failure::Failure;
use crate::page::{Page, command};
use crate::parts::text::{going_on, none, pages, stream, time};
use crate::url;

/// The number of streams on a page.
const SHOWN: usize = 50;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let (prefix, contains) = (context.query("prefix"), context.query("contains"));
    let query = StreamQuery {
        prefix: prefix.to_owned(),
        contains: contains.to_owned(),
        after: context.parsed("after")?,
        limit: SHOWN,
    };
    let found = context.admin().streams(&query).await?;
    let to = |after: &str| {
        let values = [("prefix", prefix), ("contains", contains), ("after", after)];
        context.link(&format!("/streams{}", url::query(&values)))
    };
    let next = found.next.as_ref().map(|after| to(after.as_str()));
    let is_searching = found.entries.is_empty() && next.is_some();
    let body = html! {
        @if found.entries.is_empty() {
            @match &next {
                Some(next) => { (none("None among the streams examined so far.")) (going_on(next)) }
                None => (none("There are none.")),
            }
        } @else {
            div.scroll { table {
                thead { tr { th { "Stream" } th.number { "Version" } th { "Last event" } th { "Changed" } th { "Created" } } }
                tbody {
                    @for of in &found.entries {
                        tr {
                            td { (stream(&context, &of.stream)) }
                            td.number { (of.version.get()) }
                            td { (of.last_event) }
                            td.short { (time(of.changed_at)) }
                            td.short { (time(of.created_at)) }
                        }
                    }
                }
            } }
        }
        (pages(query.after.is_some().then(|| to("")), next.filter(|_| !is_searching)))
    };
    let mut words = vec!["streams", "list"];
    if !contains.is_empty() {
        words.extend(["--contains", contains]);
    }
    // No link can put an option where a beginning is expected.
    words.extend(prefix.starts_with('-').then_some("--"));
    words.extend(Some(prefix).filter(|prefix| !prefix.is_empty()));
    let command = command(words);
    let page = Page::new("Streams", command, body).with_head(filter(&context));
    Ok(if is_searching { page.still() } else { page })
}

fn filter(context: &Context) -> Markup {
    let types: Vec<_> = context.admin().app().registry().names().collect();
    html! {
        form.filter method="get" action=(context.link("/streams")) role="search" {
            input type="search" name="prefix" list="types" placeholder="Name begins with (order-…)" aria-label="Beginning of the name" value=(context.query("prefix"));
            datalist #types { @for name in types { option value={ (name) "-" } {} } }
            input name="contains" placeholder="Name contains" aria-label="Part of the name" value=(context.query("contains"));
            button type="submit" { "Search" }
        }
    }
}
