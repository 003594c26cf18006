//! Times, links, and lists that may be empty.

use composable_rust_core::{CorrelationId, StreamId, Timestamp};
use maud::{Markup, html};

use crate::context::Context;
use crate::url;

/// Returns a time to the second; the title has its age.
pub(crate) fn time(moment: Timestamp) -> Markup {
    let exact = moment.to_string();
    let shown: String = exact.chars().take(19).map(|c| if c == 'T' { ' ' } else { c }).collect();
    html! { time datetime=(exact) { (shown) } }
}

/// Returns a duration in the largest unit that leaves two digits.
pub(crate) fn seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Returns a count that ends at 10,000.
pub(crate) fn counted(count: u64) -> String {
    if count >= 10_000 { "10,000+".to_owned() } else { count.to_string() }
}

pub(crate) fn stream(context: &Context, stream: &StreamId) -> Markup {
    html! { a.mono href=(context.stream_link(stream.as_str())) { (stream) } }
}

/// Returns a link to the recipient of a message, if it is a stream.
pub(crate) fn recipient(context: &Context, recipient: &str) -> Markup {
    html! {
        @if let Ok(of) = recipient.parse::<StreamId>() { (stream(context, &of)) }
        @else { span.mono { (recipient) } }
    }
}

/// Returns a link to a workflow, which is searched around a moment.
pub(crate) fn workflow(
    context: &Context,
    id: Option<CorrelationId>,
    around: Option<Timestamp>,
) -> Markup {
    html! {
        @if let Some(id) = id {
            @let around = around.map(|moment| moment.to_string()).unwrap_or_default();
            @let path = format!("/traces/{id}{}", url::query(&[("around", &around)]));
            a href=(context.link(&path)) title=(id) { "workflow" }
        }
    }
}

/// Returns the sentence that stands for an empty list.
pub(crate) fn none(text: &str) -> Markup {
    html! { p.faint { (text) } }
}

/// Returns a link to the page that continues a search, which the script follows by itself.
pub(crate) fn going_on(next: &str) -> Markup {
    html! {
        p.pages {
            a rel="next" data-search href=(next) { "Search on" }
            span.faint { "Escape stops the search." }
        }
    }
}

/// Returns links to the first and the next page of a list.
pub(crate) fn pages(first: Option<String>, next: Option<String>) -> Markup {
    html! {
        @if first.is_some() || next.is_some() {
            p.pages {
                @if let Some(first) = first { a href=(first) { "First page" } }
                @if let Some(next) = next { a rel="next" href=(next) { "Next page" } }
            }
        }
    }
}
