//! The tree of what a workflow has set in motion.

use std::time::Duration;

use composable_rust_admin::{Trace, TraceNode, TraceRange, TraceWaiting, Via, WaitingKind};
use composable_rust_core::{CorrelationId, Timestamp};
use maud::{Markup, html};
use uuid::Uuid;

use crate::context::Context;
use crate::failure::Failure;
use crate::page::{Page, command};
use crate::parts::content::content;
use crate::parts::text::{stream, time};
use crate::url;

/// The hours around the moment that are searched at first.
const HOURS: u64 = 1;
/// The time for which more hours are searched.
const PATIENCE: Duration = Duration::from_secs(2);
/// The choices of hours.
const CHOICES: [(u64, &str); 4] = [(1, "1 hour"), (24, "1 day"), (720, "30 days"), (0, "all")];

pub(crate) async fn page(context: Context) -> Result<Page, Failure> {
    let text = context.param("correlation");
    let id: Uuid = text.parse().map_err(|_| Failure::invalid("workflow", text))?;
    let around = context.parsed::<Timestamp>("around")?;
    let hours = context.parsed::<u64>("hours")?.unwrap_or(HOURS);
    let range = match around {
        Some(around) if hours > 0 => {
            let span = Duration::from_secs(hours.saturating_mul(3_600).min(u64::from(u32::MAX)));
            TraceRange { since: Some(around - span), until: Some(around + span) }
        }
        _ => TraceRange::default(),
    };
    let admin = match hours {
        HOURS => context.admin().clone(),
        _ => context.admin().within(PATIENCE),
    };
    let trace = admin.trace(CorrelationId(id), range, &context.shared.others).await?;
    let events = format!("/events{}", url::query(&[("correlation", &id.to_string())]));
    let body = html! {
        @if trace.is_cut {
            p.warn {
                "A part of the log was not searched: choose a shorter time, or "
                a href=(context.link(&events)) { "search the whole log" } " for its events."
            }
        }
        ul.tree { @for node in &trace.roots { (tree(&context, node)) } }
        @if !trace.waiting.is_empty() {
            h2 { "Waits, from events outside of this time" }
            ul.tree { @for of in &trace.waiting { li { (waits(&context, of)) } } }
        }
        p.faint { (summary(&trace)) }
    };
    let command = command(["trace", &id.to_string()]);
    let page = Page::new(format!("Workflow {id}"), command, body);
    Ok(page.with_head(choices(&context, id, around, hours)))
}

fn choices(context: &Context, id: Uuid, around: Option<Timestamp>, hours: u64) -> Markup {
    let around = around.map(|moment| moment.to_string()).unwrap_or_default();
    html! {
        @if !around.is_empty() {
            p.pages {
                span.faint { "Searched before and after the moment:" }
                @for (choice, label) in CHOICES {
                    @let query = url::query(&[("around", &around), ("hours", &choice.to_string())]);
                    @if choice == hours { strong { (label) } }
                    @else { a href=(context.link(&format!("/traces/{id}{query}"))) { (label) } }
                }
            }
        }
    }
}

fn tree(context: &Context, node: &TraceNode) -> Markup {
    html! {
        li {
            (time(node.at)) " "
            @if node.log == context.admin().app().log().id { (stream(context, &node.stream)) }
            @else { span.mono { (node.stream) } " " span.tag { "another service" } }
            " "
            span.tag { (via(&node.via)) }
            ul.tree {
                @for event in &node.events {
                    li {
                        (event.name) " "
                        (content(context, &event.content, &format!("event-{}", event.id)))
                    }
                }
                @for of in &node.waiting { li { (waits(context, of)) } }
                @for child in &node.children { (tree(context, child)) }
            }
        }
    }
}

fn via(via: &Via) -> String {
    match via {
        Via::Command => "command".to_owned(),
        Via::Effect => "effect".to_owned(),
        Via::Outcome => "outcome".to_owned(),
        Via::Policy(name) => format!("policy {name}"),
        Via::Later => "later".to_owned(),
    }
}

fn waits(context: &Context, of: &TraceWaiting) -> Markup {
    let kind = match of.kind {
        WaitingKind::Message => "waits",
        WaitingKind::Timer => "timer",
        WaitingKind::DeadLetter => "dead letter",
    };
    html! {
        span.waits {
            span.tag { (kind) } " " (of.message.name) " for " span.mono { (of.target) }
            @if let Some(due) = of.due { " due " (time(due)) }
        }
        " " (stream(context, &of.message.sender))
        @if let Some(error) = &of.error { " " span.failure { (error) } }
    }
}

fn summary(trace: &Trace) -> String {
    fn count(node: &TraceNode) -> (usize, usize) {
        node.children
            .iter()
            .map(count)
            .fold((1, node.waiting.len()), |sum, of| (sum.0 + of.0, sum.1 + of.1))
    }
    let (handled, waiting) = trace
        .roots
        .iter()
        .map(count)
        .fold((0, trace.waiting.len()), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    format!("{handled} messages handled, {waiting} wait.")
}
