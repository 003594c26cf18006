//! Unfinished instances by step.

use composable_rust_admin::StepView;
use maud::{Markup, html};

use crate::context::Context;
use crate::failure::Failure;
use crate::page::{Page, command};
use crate::parts::text::{none, pages, stream, time};
use crate::url;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let registry = context.admin().app().registry();
    let first = registry.names().next().unwrap_or_default();
    let category = match context.query("category") {
        "" => first,
        category => category,
    };
    let after = context.parsed("after")?;
    let is_first = after.is_none();
    let (steps, next) = if category.is_empty() {
        (Vec::new(), None)
    } else {
        let page = context.admin().unfinished(category, after).await?;
        (page.entries, page.next)
    };
    let to = |after: &str| {
        let values = [("category", category), ("after", after)];
        context.link(&format!("/sagas{}", url::query(&values)))
    };
    let body = html! {
        @if steps.is_empty() {
            (none(if next.is_some() { "All instances examined so far are finished." } else { "All are finished." }))
        }
        div.columns { @for step in &steps { (column(&context, step)) } }
        (pages((!is_first).then(|| to("")), next.map(|next| to(next.as_str()))))
    };
    let command = command(["sagas", category].into_iter().filter(|word| !word.is_empty()));
    Ok(Page::new("Unfinished, by step", command, body).with_head(filter(&context, category)))
}

fn column(context: &Context, step: &StepView) -> Markup {
    html! {
        section.card {
            h2 { (step.step) small { " " (step.count) } }
            table { tbody {
                @for of in &step.oldest {
                    tr {
                        td {
                            (stream(context, &of.stream))
                            @if let Some(error) = &of.error { div.failure { (error) } }
                        }
                        td.short { (time(of.since)) }
                    }
                }
            } }
            @if step.count > step.oldest.len() as u64 { (none("The oldest are shown.")) }
        }
    }
}

fn filter(context: &Context, category: &str) -> Markup {
    let names: Vec<_> = context.admin().app().registry().names().collect();
    html! {
        form.filter method="get" action=(context.link("/sagas")) role="search" {
            input type="search" name="category" list="types" placeholder="Type" aria-label="Type" value=(category);
            datalist #types { @for name in names { option value=(name) {} } }
            button type="submit" { "Show" }
            span.faint { "Up to 2,000 instances a page, in the order of their names." }
        }
    }
}
