//! Queues, and the messages that wait in them.

use composable_rust_core::queue::OutboxKind;
use maud::html;

use crate::action::Outcome;
use crate::context::Context;
use crate::failure::Failure;
use crate::form::{Form, button};
use crate::page::{Page, command};
use crate::pages::instance::messages;
use crate::parts::text::{counted, none, seconds};
use crate::url;

/// The number of messages on a page.
const SHOWN: usize = 100;

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let queues = context.admin().queues().await?;
    let body = html! {
        @if queues.is_empty() { (none("Nothing waits.")) }
        @else {
            div.scroll { table {
                thead { tr { th { "Queue" } th.number { "Partition" } th.number { "Waiting" } th.number { "Oldest" } th.number { "Dead letters" } th { "Worker" } th { "Last error" } } }
                tbody {
                    @for of in &queues {
                        @let query = url::query(&[("kind", of.kind), ("target", &of.target)]);
                        tr {
                            td { a href=(context.link(&format!("/queues/messages{query}"))) { (of.kind) "/" (of.target) } }
                            td.number { (of.partition) }
                            td.number { (counted(of.depth)) }
                            td.number { @if of.depth > 0 { (seconds(of.oldest_seconds)) } }
                            td.number { @if of.dead_letters > 0 { span.bad { (counted(of.dead_letters)) } } }
                            td {
                                @match of.has_worker {
                                    Some(true) => span.good { "yes" },
                                    Some(false) => span.bad { "none" },
                                    None => span.faint { "paused" },
                                }
                            }
                            td.failure { (of.last_error.as_deref().unwrap_or("")) }
                        }
                    }
                }
            } }
        }
    };
    Ok(Page::new("Queues", "queues list", body))
}

pub(crate) async fn waiting(context: Context) -> Result<Page, Failure> {
    let (kind, target) = (context.query("kind"), context.query("target"));
    let of = OutboxKind::from_name(kind).ok_or_else(|| Failure::invalid("kind", kind))?;
    let found = if of == OutboxKind::Timer {
        Vec::new()
    } else {
        context.admin().waiting(of, target, SHOWN).await?
    };
    let body = html! {
        p.pages {
            a href=(context.link("/queues")) { "All queues" }
            @if of == OutboxKind::Timer { a href=(context.link(&format!("/timers{}", url::query(&[("category", target)])))) { "Its timers" } }
        }
        @if found.is_empty() { (none("Nothing waits.")) } @else { (messages(&context, &found)) }
        @if found.len() == SHOWN { (none("Only the first 100 are shown.")) }
        @for waiting in found.iter().take(1) {
            @let id = waiting.message.id.to_string();
            @let then = format!("/queues/messages{}", url::query(&[("kind", kind), ("target", target)]));
            p {
                (button(&context, "Park the first message…", "/queues/park", &[("id", &id), ("then", &then)])) " "
                (button(&context, "Discard the first message…", "/queues/discard", &[("id", &id), ("then", &then)]))
            }
        }
    };
    let name = format!("{kind}/{target}");
    Ok(Page::new(&name, command(["queues", "show", &name]), body))
}

pub(crate) async fn park(context: Context, form: Form) -> Result<Outcome, Failure> {
    let id = form.parsed("id")?;
    if !form.is_confirmed() {
        let question = "Move the message to the dead letters?";
        return Ok(Outcome::ask(question, "Park"));
    }
    context.admin_because(form.reason()).park(id).await?;
    Ok(Outcome::done("Parked.", form.then("/queues")))
}

pub(crate) async fn discard(context: Context, form: Form) -> Result<Outcome, Failure> {
    let id = form.parsed("id")?;
    if !form.is_confirmed() {
        let question = "Discard the message? Its sender is told, nobody else is.";
        return Ok(Outcome::ask(question, "Discard"));
    }
    context.admin_because(form.reason()).discard_waiting(id).await?;
    Ok(Outcome::done("Discarded.", form.then("/queues")))
}
