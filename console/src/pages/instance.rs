//! One instance: its state, its events, and everything of it that waits.

use composable_rust_admin::{EventView, HandledView, InstanceView, WaitingView};
use composable_rust_core::{StreamId, Version};
use maud::{Markup, html};

use crate::context::Context;
use crate::failure::{Failure, texts};
use crate::page::{Page, command};
use crate::pages::{dead_letters, replacement, timers};
use crate::parts::content::{block, content, difference};
use crate::parts::text::{none, pages, recipient, stream, time, workflow};
use crate::url;

/// The number of events on a page of the history.
const SHOWN: usize = 50;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let of = context.stream()?;
    if let Some(at) = context.parsed::<u64>("at")? {
        return version(&context, &of, at).await;
    }
    if let Some(after) = context.parsed::<u64>("after")? {
        return history(&context, &of, after).await;
    }
    let instance = context.admin().instance(&of).await?;
    let body = html! {
        p {
            "Version " strong { (instance.version.get()) } " · "
            a href=(context.link(&format!("/events{}", url::query(&[("stream", of.as_str())])))) { "in the log" }
        }
        @if let Some(error) = &instance.error { (fault(&context, &of, error, instance.faulty)) }
        @if let Some(state) = &instance.state { h2 { "State" } (block(&context, state)) }
        (waiting(&context, &instance))
        h2 { "Events" small { " the last " (instance.events.len()) } }
        (events(&context, &instance.events))
        @if instance.events.first().is_some_and(|event| event.version.get() > 1) {
            p.pages { a href=(at_version(&context, &of, "after", 0)) { "From the first event" } }
        }
        h2 { "Inbox" small { " the last messages that the instance has handled" } }
        (inbox(&context, &of, &instance.handled))
    };
    Ok(Page::new(of.to_string(), command(["streams", "show", of.as_str()]), body))
}

/// Returns the reason why an instance cannot be loaded, and a link to the event at fault.
fn fault(context: &Context, of: &StreamId, error: &str, event: Option<Version>) -> Markup {
    html! {
        p.failure { "Cannot be loaded: " (error) }
        @if let Some(version) = event {
            p.pages { a href=(at_version(context, of, "at", version.get())) { "The event at fault" } }
        }
    }
}

/// Returns the page of the state at a version, with its difference from the one before.
async fn version(context: &Context, of: &StreamId, at: u64) -> Result<Page, Failure> {
    let from = context.parsed::<u64>("from")?.unwrap_or(at.saturating_sub(1));
    let to = |at: u64| at_version(context, of, "at", at);
    let event = context.admin().history(of, Version::new(at.saturating_sub(1)), 1).await?;
    let changes = changes(context, of, from, at).await?;
    let body = html! {
        p.pages {
            a href=(context.stream_link(of.as_str())) { "Now" }
            @if at > 0 { a rel="prev" href=(to(at - 1)) { "Version " (at - 1) } }
            @if let Some(next) = at.checked_add(1) { a rel="next" href=(to(next)) { "Version " (next) } }
        }
        @if at > 0 { (events(context, &event.entries)) (replacement::link(context, &event.entries)) }
        (changes)
    };
    let command = command(["streams", "diff", of.as_str(), &from.to_string(), &at.to_string()]);
    Ok(Page::new(format!("{of} at {at}"), command, body).still())
}

/// Returns the changes between two versions and the state at the second, or why there is none.
async fn changes(context: &Context, of: &StreamId, from: u64, at: u64) -> Result<Markup, Failure> {
    let admin = context.admin();
    let state = match admin.state(of, Some(Version::new(at))).await {
        Ok(state) => state,
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => {
            return Ok(html! { p.failure { "There is no state: " (texts(&error)) } });
        }
    };
    let differences = admin.diff(of, Version::new(from), Version::new(at)).await?;
    Ok(html! {
        h2 { "Changes since version " (from) }
        @if differences.is_empty() { (none("None.")) }
        table { tbody {
            @for of in &differences {
                tr {
                    td.mono { @if of.path.is_empty() { "(all)" } @else { (of.path) } }
                    td { (difference(context, of.before.as_ref(), of.after.as_ref())) }
                }
            }
        } }
        h2 { "State at version " (state.version.get()) }
        (block(context, &state.state))
    })
}

async fn history(context: &Context, of: &StreamId, after: u64) -> Result<Page, Failure> {
    let page = context.admin().history(of, Version::new(after), SHOWN).await?;
    let to = |after: u64| at_version(context, of, "after", after);
    let body = html! {
        p { a href=(context.stream_link(of.as_str())) { "The instance" } }
        (events(context, &page.entries))
        (pages((after > 0).then(|| to(0)), page.next.map(|after| to(after.get()))))
    };
    let command = command(["streams", "events", of.as_str(), "--after", &after.to_string()]);
    Ok(Page::new(format!("{of}: history"), command, body).still())
}

pub(crate) fn at_version(context: &Context, of: &StreamId, name: &str, at: u64) -> String {
    format!("{}?{name}={at}", context.stream_link(of.as_str()))
}

/// Returns a table of events of one stream.
fn events(context: &Context, events: &[EventView]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th.number { "Version" } th { "Event" } th { "Time" } th { "User" } th { "Content" } th { "Cause" } } }
            tbody {
                @for of in events.iter().rev() {
                    tr {
                        td.number {
                            a href=(at_version(context, &of.stream, "at", of.version.get())) title="State and changes at this version" { (of.version.get()) }
                        }
                        td { (of.name) @if of.schema_version > 1 { " " span.tag { "v" (of.schema_version) } } }
                        td.short { (time(of.recorded_at)) }
                        td { (of.user.as_deref().unwrap_or("")) }
                        td { (content(context, &of.content, &format!("event-{}", of.version.get()))) }
                        td { (workflow(context, of.correlation_id, Some(of.recorded_at))) }
                    }
                }
            }
        } }
    }
}

fn waiting(context: &Context, of: &InstanceView) -> Markup {
    html! {
        @if !of.dead_letters.is_empty() {
            h2.bad { "Dead letters" }
            (dead_letters::table(context, &of.dead_letters))
        }
        @if !of.timers.is_empty() { h2 { "Timers" } (timers::table(context, &of.timers)) }
        @if !of.sending.is_empty() { h2 { "Outbox" small { " messages that it sends" } } (messages(context, &of.sending)) }
        @if !of.receiving.is_empty() { h2 { "Waiting for it" } (messages(context, &of.receiving)) }
    }
}

/// Returns a table of waiting messages.
pub(crate) fn messages(context: &Context, messages: &[WaitingView]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Queue" } th { "Message" } th { "From" } th { "To" } th.number { "Attempts" } th { "Content" } th { "Cause" } } }
            tbody {
                @for of in messages {
                    tr {
                        td { (of.kind) "/" (of.target) }
                        td title=(of.message.id) { (of.message.name) }
                        td { (stream(context, &of.message.sender)) }
                        td { (recipient(context, &of.message.recipient)) }
                        td.number { (of.attempts) }
                        td { (content(context, &of.message.content, &format!("message-{}", of.message.id))) }
                        td { (workflow(context, of.message.correlation_id, None)) }
                    }
                }
            }
        } }
    }
}

fn inbox(context: &Context, of: &StreamId, handled: &[HandledView]) -> Markup {
    html! {
        @if handled.is_empty() { (none("Its inbox is empty.")) }
        @else {
            table {
                thead { tr { th { "Message" } th.number { "Version after it" } th { "Result" } } }
                tbody {
                    @for entry in handled {
                        tr {
                            td.mono { (entry.message_id) }
                            td.number { a href=(at_version(context, of, "at", entry.version.get())) { (entry.version.get()) } }
                            td { @if entry.recorded { "events" } @else { span.faint { "no events" } } }
                        }
                    }
                }
            }
        }
    }
}
