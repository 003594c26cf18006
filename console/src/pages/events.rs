//! The log, newest events first.

use composable_rust_admin::{EventCursor, EventQuery};
use composable_rust_core::{CorrelationId, Timestamp};
use maud::{Markup, html};
use uuid::Uuid;

use crate::context::Context;
use crate::failure::Failure;
use crate::page::{Page, command};
use crate::parts::content::content;
use crate::parts::text::{going_on, none, pages, stream, time, workflow};
use crate::url;

/// The number of events on a page.
const SHOWN: usize = 50;
/// The parts of the query, apart from the cursor.
const FILTERS: [&str; 6] = ["category", "stream", "name", "correlation", "since", "until"];

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let given =
        |name: &str| Some(context.query(name)).filter(|of| !of.is_empty()).map(str::to_owned);
    let query = EventQuery {
        category: given("category"),
        stream_contains: given("stream"),
        names: given("name").into_iter().collect(),
        correlation: context.parsed::<Uuid>("correlation")?.map(CorrelationId),
        since: moment(&context, "since")?,
        until: moment(&context, "until")?,
        cursor: context.parsed::<EventCursor>("after")?,
        limit: SHOWN,
    };
    let page = context.admin().events(&query).await?;
    let to = |after: &str| {
        let mut values: Vec<_> = FILTERS.iter().map(|name| (*name, context.query(name))).collect();
        values.push(("after", after));
        context.link(&format!("/events{}", url::query(&values)))
    };
    let whole = context.admin().end_of_log().await?.events_before();
    let left = page.next.as_ref().map_or(0, EventCursor::events_before);
    let next = page.next.map(|next| to(&next.to_string()));
    let is_searching = page.entries.is_empty() && next.is_some();
    let body = html! {
        @if page.entries.is_empty() {
            @match &next {
                Some(next) => {
                    (none("None in the part of the log examined so far."))
                    p {
                        meter min="0" max=(whole.max(1)) value=(whole.saturating_sub(left)) {} " "
                        (left) " of " (whole) " events are left. "
                    }
                    (going_on(next))
                }
                None => (none("There are none.")),
            }
        } @else {
            div.scroll { table {
                thead { tr { th { "Time" } th { "Stream" } th.number { "Version" } th { "Event" } th { "User" } th { "Content" } th { "Cause" } } }
                tbody {
                    @for of in &page.entries {
                        tr {
                            td.short { (time(of.recorded_at)) }
                            td { (stream(&context, &of.stream)) }
                            td.number { (of.version.get()) }
                            td { (of.name) }
                            td { (of.user.as_deref().unwrap_or("")) }
                            td { (content(&context, &of.content, &format!("event-{}", of.id))) }
                            td { (workflow(&context, of.correlation_id, Some(of.recorded_at))) }
                        }
                    }
                }
            } }
        }
        (pages(query.cursor.is_some().then(|| to("")), next.filter(|_| !is_searching)))
    };
    let mut words = vec!["events".to_owned()];
    for name in FILTERS.iter().filter(|name| !context.query(name).is_empty()) {
        words.extend([format!("--{name}"), context.query(name).to_owned()]);
    }
    let command = command(words.iter().map(String::as_str));
    let page = Page::new("Events", command, body).with_head(filter(&context));
    let is_old = query.cursor.is_some() || query.until.is_some() || is_searching;
    Ok(if is_old { page.still() } else { page })
}

/// Returns a time of the query: RFC 3339, or as browsers give it, without a zone, in UTC.
fn moment(context: &Context, name: &str) -> Result<Option<Timestamp>, Failure> {
    let text = context.query(name);
    let whole = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z")];
    match text {
        "" => Ok(None),
        _ => match whole.iter().find_map(|text| text.parse().ok()) {
            Some(moment) => Ok(Some(moment)),
            None => Err(Failure::invalid(name, text)),
        },
    }
}

fn filter(context: &Context) -> Markup {
    let registry = context.admin().app().registry();
    let names: Vec<_> =
        registry.names().filter_map(|name| registry.events(name).ok()).flatten().collect();
    html! {
        form.filter method="get" action=(context.link("/events")) role="search" {
            input type="search" name="stream" placeholder="Stream contains" aria-label="Part of the stream's name" value=(context.query("stream"));
            input name="category" size="12" placeholder="Type" aria-label="Type of the stream" value=(context.query("category"));
            input name="name" list="names" placeholder="Event" aria-label="Name of the event" value=(context.query("name"));
            datalist #names { @for kind in names { option value=(kind.name) {} } }
            label { "from " input type="datetime-local" name="since" value=(context.query("since")); }
            label { "to " input type="datetime-local" name="until" value=(context.query("until")); }
            span.faint { "UTC" }
            button type="submit" { "Search" }
        }
    }
}
